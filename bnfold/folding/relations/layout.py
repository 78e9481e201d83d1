"""Operators that only move elements: each element keeps its units, so the ids move as the elements do."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnfold.folding.relations.operands import input_of, integers
from bnfold.folding.relations.registry import relation
from bnfold.folding.units import Ids, Refusal, Units
from bnfold.graph import operators as op
from bnfold.graph.constants import attribute, constant, is_float
from bnfold.graph.shapes import Group, completed, dims_of, regroup
from bnfold.records.causes import Cause

__all__: list[str] = []


@relation(op.Identity, op.Dropout, kind="carry")
def relate_identity(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Identity, and Dropout outside training: y = x."""
    training = constant(input_of(node, 2))
    if node.op_type == op.Dropout and input_of(node, 2) is not None and (training is None or bool(training)):
        return Refusal(Cause.TRAINING_MODE)
    units.carry(node, lambda ids: ids)
    return None


@relation(op.Cast, op.CastLike, kind="carry")
def relate_cast(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Cast between float types: y = x."""
    x, y = node.inputs[0], node.outputs[0]
    if x is None or not (is_float(x) and is_float(y)):
        return Refusal(Cause.NONLINEAR, "cast")
    units.carry(node, lambda ids: ids)
    return None


@relation(op.Shape, op.Size, kind="carry")
def relate_shape(node: ir.Node, units: Units) -> None:
    """ONNX Shape, Size: they read no element."""


@relation(op.Transpose, kind="carry")
def relate_transpose(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Transpose: ids_y = ids_x transposed."""
    perm = attribute(node, "perm", None)
    units.carry(node, lambda ids: ids.transpose(perm))
    return None


@relation(op.Reshape, op.Flatten, kind="carry")
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


@relation(op.Squeeze, kind="carry")
def relate_squeeze(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Squeeze: axes of length 1 vanish."""
    x = node.inputs[0]
    axes = integers(node, 1, "axes")
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


@relation(op.Unsqueeze, kind="carry")
def relate_unsqueeze(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Unsqueeze: axes of length 1 appear."""
    axes = integers(node, 1, "axes")
    if axes is None:
        return Refusal(Cause.NOT_CONSTANT, "axes")
    units.carry(node, lambda ids: np.expand_dims(ids, tuple(axes)))
    return None


@relation(op.Expand, kind="carry")
def relate_expand(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Expand: broadcast axes are uniform, so the ids stay."""
    rank = dims_of(node.outputs[0])
    if rank is None:
        return Refusal(Cause.UNKNOWN_SHAPE, "output")
    units.carry(node, lambda ids: ids.reshape((1,) * (len(rank) - ids.ndim) + ids.shape))
    return None
