"""Operators that pick, join or surround elements: the ids of what they pick, joined, or of what they surround."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnfold.folding.relations.operands import has_input, input_of, integers
from bnfold.folding.relations.registry import relation
from bnfold.folding.units import Refusal, Units
from bnfold.graph import operators as op
from bnfold.graph.constants import attribute, constant
from bnfold.graph.shapes import static_length
from bnfold.records.causes import Cause

__all__: list[str] = []


@relation(op.Slice, kind="carry")
def relate_slice(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Slice with constant bounds: ids_y = ids_x sliced on the axes where units differ."""
    starts, ends = integers(node, 1, "starts"), integers(node, 2, "ends")
    if starts is None or ends is None:
        return Refusal(Cause.NOT_CONSTANT, "bounds")
    axes = integers(node, 3, "axes") if has_input(node, 3, "axes") else list(range(len(starts)))
    steps = integers(node, 4, "steps") if has_input(node, 4, "steps") else [1] * len(starts)
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


@relation(op.Split, kind="carry")
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


@relation(op.Concat, kind="carry")
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


@relation(op.DepthToSpace, kind="carry")
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


@relation(op.Pad, kind="carry")
def relate_pad(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Pad: edge, reflect, wrap repeat elements of the same channel; zeros want d = 0; other constants refuse."""
    x, pads = node.inputs[0], integers(node, 1, "pads")
    if x is None or pads is None:
        return Refusal(Cause.NOT_CONSTANT, "widths")
    ids = units.of(x)
    axes = integers(node, 3, "axes") if has_input(node, 3, "axes") else list(range(ids.ndim))
    if axes is None:
        return Refusal(Cause.NOT_CONSTANT, "axes")
    half = len(pads) // 2
    padded = {axis % ids.ndim for k, axis in enumerate(axes) if pads[k] or pads[k + half]}
    if any(ids.shape[k] > 1 for k in padded):
        return Refusal(Cause.NO_RULE, "channel padding")
    if attribute(node, "mode", "constant") == "constant" and padded:
        fill = constant(input_of(node, 2))
        if (
            (input_of(node, 2) is not None and fill is None)
            or (fill is not None and fill.any())
            or attribute(node, "value", 0.0)
        ):
            return Refusal(Cause.PADDING, "fill")
        units.no_offset(ids, node, Cause.PADDING)
        units.use(ids)
    units.ids[node.outputs[0]] = ids
    return None
