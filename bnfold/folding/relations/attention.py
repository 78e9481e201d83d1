"""Weighted means: a MatMul of data with weights that sum to 1, as the values of an attention have.

    y = A v,  sum_k A[i, k] = 1:   A a (v + d) = a (y + d)

for a and d that are uniform along the axis that is summed over, and whatever A is.
"""

from __future__ import annotations

import onnx_ir as ir

from bnfold.folding.relations.registry import Kind
from bnfold.folding.units import Refusal, Units
from bnfold.graph import operators as op
from bnfold.graph.constants import attribute, constant_shape, is_float, operand
from bnfold.graph.operators import kind_of
from bnfold.graph.shapes import dims_of
from bnfold.records.causes import Cause

__all__ = ["relate_weighted_mean", "values_of"]

_SAME_ELEMENTS = (op.Cast, op.Dropout, op.Identity)


def relate_weighted_mean(node: ir.Node, units: Units) -> Refusal | Kind:
    """ONNX MatMul of data, one operand a Softmax: y keeps the units of the other."""
    y, values = dims_of(node.outputs[0]), values_of(node)
    if y is None or values is None or constant_shape(node.inputs[values]) is not None:
        return Refusal(Cause.NOT_CONSTANT, "weight")
    weights = units.of(operand(node, 1 - values))
    units.pin(weights, node, Cause.PRODUCT)
    units.use(weights)
    ids = units.of(operand(node, values))
    ids = units.collapse(ids, [ids.ndim - (2 if values == 1 else 1)])
    units.ids[node.outputs[0]] = ids.reshape((1,) * (len(y) - ids.ndim) + ids.shape)
    return "carry"


def values_of(node: ir.Node) -> int | None:
    """Which operand of a MatMul the other, a Softmax, takes the mean of; None if neither is one."""
    left, right = node.inputs
    if left is None or right is None or min(len(left.shape or ()), len(right.shape or ())) < 2:
        return None
    return 1 if _sums_to_one(left, -1) else 0 if _sums_to_one(right, -2) else None


def _sums_to_one(value: ir.Value, axis: int) -> bool:
    """Whether a value is a Softmax along an axis, counted from the last, perhaps transposed since."""
    node, rank = value.producer(), len(value.shape or ())
    x = node.inputs[0] if node is not None and node.inputs else None
    if node is None or x is None or not is_float(x):
        return False
    if kind_of(node) in _SAME_ELEMENTS and len(node.inputs) < 3:
        return _sums_to_one(x, axis)
    if kind_of(node) == op.Transpose:
        perm = attribute(node, "perm", list(range(rank))[::-1])
        return _sums_to_one(x, perm[axis] - rank)
    # Before opset 13 Softmax sums over all axes from its own one on.
    opset = node.graph.opset_imports.get("", 0) if node.graph is not None else 0
    return kind_of(node) == op.Softmax and opset >= 13 and attribute(node, "axis", -1) in (axis, axis + rank)
