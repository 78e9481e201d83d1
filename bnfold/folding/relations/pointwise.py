"""Elementwise operators on data: activations that commute with a positive scale, sums and gates."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnfold.folding.relations.registry import relation
from bnfold.folding.units import Refusal, Units
from bnfold.graph import operators as op
from bnfold.graph.constants import attribute, constant, float64_constant
from bnfold.graph.shapes import dims_of
from bnfold.records.causes import Cause

__all__ = ["relate_product", "relate_sum"]


@relation(op.Relu, op.LeakyRelu, op.PRelu, kind="other")
def relate_relu(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Relu, LeakyRelu, PRelu: f(a x) = a f(x) for a > 0, so a > 0 and d = 0; y has the units of x."""
    x = node.inputs[0]
    if x is None:
        return Refusal(Cause.INVALID, "input")
    if node.op_type == op.PRelu and constant(node.inputs[1]) is None:
        return Refusal(Cause.NOT_CONSTANT, "slope")
    ids = units.of(x)
    units.keep_sign(ids, node)
    units.no_offset(ids, node, Cause.NONLINEAR)
    units.ids[node.outputs[0]] = ids
    return None


@relation(op.Clip, kind="other")
def relate_clip(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Clip: ReLU where it clips at 0 from below only; any other bound pins the units."""
    low = constant(node.inputs[1]) if len(node.inputs) > 1 else attribute(node, "min", None)
    bounded_above = (len(node.inputs) > 2 and node.inputs[2] is not None) or "max" in node.attributes
    if low is None or np.any(low) or bounded_above:
        return Refusal(Cause.NONLINEAR, "bounds")
    return relate_relu(node, units)


def relate_sum(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Add, Sub, Sum of data: equal a; d_y = d_1 + d_2 (d_1 - d_2), elementwise over the broadcast shape."""
    y = node.outputs[0]
    rank = dims_of(y)
    operands = [x for x in node.inputs if x is not None]
    if rank is None or any(dims_of(x) is None or constant(x) is not None for x in operands):
        return Refusal(Cause.UNKNOWN_SHAPE, "operands")
    arrays = [units.of(x) for x in operands]
    y_ids = units.fresh(np.broadcast_shapes(*(array.shape for array in arrays)))
    signs = [1.0, *[-1.0 if node.op_type == op.Sub else 1.0] * (len(arrays) - 1)]
    for array in arrays:
        units.tie_scales(y_ids, array)
    units.relate_offsets(node, (y_ids, -1.0), *zip(arrays, signs, strict=True))
    units.ids[y] = y_ids
    return None


def relate_product(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Mul, Div of data (a gate): d = 0; the smaller operand keeps its scale, y has that of the other."""
    first, second = node.inputs[0], node.inputs[1]
    if first is None or second is None or dims_of(node.outputs[0]) is None:
        return Refusal(Cause.UNKNOWN_SHAPE, "operands")
    a, b = units.of(first), units.of(second)
    swap = node.op_type == op.Mul and (a.size < b.size or (a.size == b.size and not a.any()))
    stream, gate = (b, a) if swap else (a, b)
    units.keep_scale(gate, node, Refusal(Cause.NO_RULE, "gate"))
    for ids in (gate, stream):
        units.no_offset(ids, node, Cause.PRODUCT)
    shape = np.broadcast_shapes(a.shape, b.shape)
    units.ids[node.outputs[0]] = stream.reshape((1,) * (len(shape) - stream.ndim) + stream.shape)
    return None


@relation(op.Sum, kind="other")
def relate_sum_operator(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Sum of data."""
    if any(float64_constant(x) is not None for x in node.inputs):
        return Refusal(Cause.NO_RULE, "constant operand")
    return relate_sum(node, units)
