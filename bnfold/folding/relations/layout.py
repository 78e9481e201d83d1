"""Operators that only move elements: each element keeps its units, so the ids move as the elements do."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnfold.folding.relations.registry import relation
from bnfold.folding.units import Ids, Refusal, Units
from bnfold.graph.constants import attribute, constant, is_float
from bnfold.graph.shapes import Group, completed, dims_of, regroup, static_length
from bnfold.records.causes import Cause

__all__: list[str] = []


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if len(node.inputs) > index else None


def _integers(node: ir.Node, index: int, name: str) -> list[int] | None:
    """A list of integers that older opsets hold as an attribute and newer ones as a constant input."""
    held = attribute(node, name, None)
    if held is not None:
        return [int(i) for i in held]
    array = constant(_input(node, index))
    return None if array is None else [int(i) for i in array.ravel()]


def _given(node: ir.Node, index: int, name: str) -> bool:
    """Whether an optional list of integers is there at all."""
    return name in node.attributes or _input(node, index) is not None


@relation("Identity", "Dropout", kind="carry")
def relate_identity(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Identity, and Dropout outside training: y = x."""
    training = constant(_input(node, 2))
    if node.op_type == "Dropout" and _input(node, 2) is not None and (training is None or bool(training)):
        return Refusal(Cause.TRAINING_MODE)
    units.carry(node, lambda ids: ids)
    return None


@relation("Cast", "CastLike", kind="carry")
def relate_cast(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Cast between float types: y = x."""
    x, y = node.inputs[0], node.outputs[0]
    if x is None or not (is_float(x) and is_float(y)):
        return Refusal(Cause.NONLINEAR, "cast")
    units.carry(node, lambda ids: ids)
    return None


@relation("Shape", "Size", kind="carry")
def relate_shape(node: ir.Node, units: Units) -> None:
    """ONNX Shape, Size: they read no element."""


@relation("Transpose", kind="carry")
def relate_transpose(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Transpose: ids_y = ids_x transposed."""
    perm = attribute(node, "perm", None)
    units.carry(node, lambda ids: ids.transpose(perm))
    return None


@relation("Reshape", "Flatten", kind="carry")
def relate_reshape(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Reshape, Flatten: within each group of axes that holds the same elements, ids_y = ids_x reshaped."""
    x, y = node.inputs[0], node.outputs[0]
    before = dims_of(x) if x is not None else None
    after = dims_of(y)
    if before is None or after is None or x is None:
        return Refusal(Cause.UNKNOWN_SHAPE, "shapes")
    ids, after = units.of(x), completed(before, after)
    groups = _regroup(ids, before, after)
    if groups is None:
        return Refusal(Cause.UNKNOWN_SHAPE, "regrouped axes")
    full_shape: list[int] = [1] * ids.ndim
    new_shape: list[int] = [1] * len(after)
    for old_axes, new_axes in groups:
        if any(ids.shape[k] > 1 for k in old_axes):
            for k in old_axes:
                full_shape[k] = before[k][0]
            for k in new_axes:
                new_shape[k] = after[k][0]
    units.ids[y] = np.broadcast_to(ids, full_shape).reshape(new_shape)
    return None


def _regroup(
    ids: Ids, before: tuple[tuple[int, tuple[str, ...]], ...], after: tuple[tuple[int, tuple[str, ...]], ...]
) -> list[Group] | None:
    """The groups of a reshape, if every group whose units differ inside has known lengths."""
    if ids.size == 1:
        return []
    groups = regroup(before, after)
    if groups is None:
        return None
    # What is regrouped has as many elements on both sides, and the same symbols among its lengths.
    if any(ids.shape[k] > 1 and any(before[i][1] for i in axes) for axes, _ in groups for k in axes):
        return None
    return groups


@relation("Squeeze", kind="carry")
def relate_squeeze(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Squeeze: axes of length 1 vanish."""
    x = node.inputs[0]
    axes = _integers(node, 1, "axes")
    if axes is None:
        dims = dims_of(x) if x is not None else None
        if dims is None or any(symbols for _, symbols in dims):
            return Refusal(Cause.NOT_CONSTANT, "axes")
        axes = [k for k, (length, _) in enumerate(dims) if length == 1]
    removed = tuple(axes)
    if x is None or any(units.of(x).shape[k] != 1 for k in removed):
        return Refusal(Cause.INVALID, "squeezed axis")
    units.carry(node, lambda ids: ids.squeeze(removed))
    return None


@relation("Unsqueeze", kind="carry")
def relate_unsqueeze(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Unsqueeze: axes of length 1 appear."""
    axes = _integers(node, 1, "axes")
    if axes is None:
        return Refusal(Cause.NOT_CONSTANT, "axes")
    units.carry(node, lambda ids: np.expand_dims(ids, tuple(axes)))
    return None


@relation("Expand", kind="carry")
def relate_expand(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Expand: broadcast axes are uniform, so the ids stay."""
    rank = dims_of(node.outputs[0])
    if rank is None:
        return Refusal(Cause.UNKNOWN_SHAPE, "output")
    units.carry(node, lambda ids: ids.reshape((1,) * (len(rank) - ids.ndim) + ids.shape))
    return None


@relation("Slice", kind="carry")
def relate_slice(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Slice with constant bounds: ids_y = ids_x sliced on the axes where units differ."""
    starts, ends = _integers(node, 1, "starts"), _integers(node, 2, "ends")
    if starts is None or ends is None:
        return Refusal(Cause.NOT_CONSTANT, "bounds")
    axes = _integers(node, 3, "axes") if _given(node, 3, "axes") else list(range(len(starts)))
    steps = _integers(node, 4, "steps") if _given(node, 4, "steps") else [1] * len(starts)
    if axes is None or steps is None:
        return Refusal(Cause.NOT_CONSTANT, "axes or steps")
    x = node.inputs[0]
    if x is None:
        return Refusal(Cause.INVALID, "input")
    ids = units.of(x)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if ids.shape[axis] > 1:
            if static_length(x, axis) != ids.shape[axis]:
                return Refusal(Cause.UNKNOWN_SHAPE, "sliced axis")
            # A bound beyond -length means "before the first" for a negative step; NumPy reads it the same way.
            stop = None if step < 0 and end < -ids.shape[axis] else end
            picked = np.arange(ids.shape[axis])[slice(start, stop, step)]
            ids = ids.take(picked, axis=axis)
    units.ids[node.outputs[0]] = ids
    return None


@relation("Split", kind="carry")
def relate_split(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Split: each part keeps the ids of its elements."""
    x, axis = node.inputs[0], attribute(node, "axis", 0)
    if x is None:
        return Refusal(Cause.INVALID, "input")
    ids = units.of(x)
    lengths = [static_length(y, axis) for y in node.outputs]
    if ids.shape[axis] == 1:
        for y in node.outputs:
            units.ids[y] = ids
        return None
    if any(length is None for length in lengths) or sum(k or 0 for k in lengths) != ids.shape[axis]:
        return Refusal(Cause.UNKNOWN_SHAPE, "parts")
    bounds = np.cumsum([k or 0 for k in lengths])[:-1]
    for y, part in zip(node.outputs, np.split(ids, bounds, axis=axis), strict=True):
        units.ids[y] = part
    return None


@relation("Concat", kind="carry")
def relate_concat(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Concat: the ids of the parts, joined."""
    y, axis = node.outputs[0], attribute(node, "axis", None)
    rank = len(y.shape) if y.shape is not None else 0
    if not rank:
        return Refusal(Cause.UNKNOWN_SHAPE, "output")
    axis %= rank
    parts = []
    for x in node.inputs:
        if x is None or constant(x) is not None:
            return Refusal(Cause.NO_RULE, "constant part")
        length = static_length(x, axis)
        if length is None:
            return Refusal(Cause.UNKNOWN_SHAPE, "parts")
        ids = units.of(x)
        parts.append(np.broadcast_to(ids, (*ids.shape[:axis], length, *ids.shape[axis + 1 :])))
    others = [max(part.shape[k] for part in parts) for k in range(rank)]
    full = [np.broadcast_to(part, (*others[:axis], part.shape[axis], *others[axis + 1 :])) for part in parts]
    units.ids[y] = np.concatenate(full, axis=axis)
    return None


@relation("DepthToSpace", kind="carry")
def relate_depth_to_space(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX DepthToSpace: an output channel gathers blocksize^2 input channels, which must agree."""
    x, block = node.inputs[0], attribute(node, "blocksize", None)
    if x is None or units.of(x).ndim != 4:
        return Refusal(Cause.UNKNOWN_SHAPE, "input")
    channels = units.channels(x, 1)
    if channels.size > 1:
        mode = attribute(node, "mode", "DCR")
        blocks = channels.reshape(block * block, -1) if mode == "DCR" else channels.reshape(-1, block * block).T
        channels = units.collapse(blocks, {0}).reshape(-1)
    units.ids[node.outputs[0]] = channels.reshape(1, -1, 1, 1)
    return None


@relation("Pad", kind="carry")
def relate_pad(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Pad: edge, reflect, wrap repeat elements of the same channel; zeros want d = 0; other constants refuse."""
    x, pads = node.inputs[0], _integers(node, 1, "pads")
    if x is None or pads is None:
        return Refusal(Cause.NOT_CONSTANT, "widths")
    ids = units.of(x)
    axes = _integers(node, 3, "axes") if _given(node, 3, "axes") else list(range(ids.ndim))
    if axes is None:
        return Refusal(Cause.NOT_CONSTANT, "axes")
    half = len(pads) // 2
    padded = {axis % ids.ndim for k, axis in enumerate(axes) if pads[k] or pads[k + half]}
    if any(ids.shape[k] > 1 for k in padded):
        return Refusal(Cause.NO_RULE, "channel padding")
    if attribute(node, "mode", "constant") == "constant" and padded:
        fill = constant(_input(node, 2))
        if (
            (_input(node, 2) is not None and fill is None)
            or (fill is not None and fill.any())
            or attribute(node, "value", 0.0)
        ):
            return Refusal(Cause.PADDING, "fill")
        units.no_offset(ids, node, Cause.PADDING)
        units.use(ids)
    units.ids[node.outputs[0]] = ids
    return None
