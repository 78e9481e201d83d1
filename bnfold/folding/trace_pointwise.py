"""Channel groups through elementwise operators: x and y leave together, and constants are computed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from bnfold.folding.channel_groups import ChannelGroups, Slot
from bnfold.folding.units import Ids
from bnfold.graph import operators as op
from bnfold.graph.constants import constant, float64_constant, is_float, operand
from bnfold.graph.float64_ops import OPERATORS
from bnfold.graph.operators import kind_of
from bnfold.graph.shapes import dims_of, static_length
from bnfold.numerics.affine import Float64

__all__ = ["BINARY", "UNARY", "trace_binary", "trace_unary"]

# Operators f(x, constants...) applied element by element, whose constant is known where that of x is.
UNARY = frozenset(
    {op.Clip, op.Elu, op.Erf, op.Gelu, op.HardSigmoid, op.HardSwish, op.LeakyRelu, op.Relu, op.Sigmoid, op.Softplus}
    | {op.Sqrt, op.Tanh}
)
BINARY: dict[str, Callable[[Float64, Float64], Float64]] = {
    op.Add: np.add,
    op.Sub: np.subtract,
    op.Mul: np.multiply,
    op.Div: np.divide,
    op.PRelu: lambda x, slope: np.where(x < 0, slope * x, x),
}


def trace_unary(node: ir.Node, coupled: ChannelGroups) -> bool:
    x = node.inputs[0]
    if x is None or any(value is not None and constant(value) is None for value in node.inputs[1:]):
        return False
    ids, known = coupled.units.of(x), coupled.known(x)
    y_ids = coupled.give(node.outputs[0], ids.shape, _evaluate(node, known, coupled.opset))
    coupled.units.tie_scales(y_ids, ids)
    return True


def _evaluate(node: ir.Node, known: Float64, opset: int) -> Float64:
    """f of the known constants, by ONNX's own definition of the operator."""
    if np.isnan(known).all():
        return known
    names = [f"c{k}" for k in range(len(node.inputs))]
    clone = ir.node(node.op_type, [ir.val(name) for name in names], node.attributes)
    clone.outputs[0].name = "y"
    evaluator = ReferenceEvaluator(ir.to_proto(clone), opsets={"": opset}, new_ops=list(OPERATORS))
    parameters = [float64_constant(value) for value in node.inputs[1:]]
    feed = dict(zip(names, [known, *parameters], strict=True))
    return np.asarray(evaluator.run(["y"], feed), np.float64).reshape(known.shape)


def trace_binary(node: ir.Node, coupled: ChannelGroups) -> bool:
    """Elementwise with broadcasting; 0 times anything is 0, as no operator here yields infinities."""
    y = node.outputs[0]
    dims = dims_of(y)
    operands = (
        [_operand(value, len(dims), coupled) for value in node.inputs] if dims is not None and is_float(y) else []
    )
    if len(operands) != 2 or operands[0] is None or operands[1] is None:
        return False
    (a_ids, a), (b_ids, b) = operands[0], operands[1]
    with np.errstate(all="ignore"):
        result = BINARY[node.op_type](a, b)
    if kind_of(node) == op.Mul:
        result = np.where((a == 0) | (b == 0), 0.0, result)
    shape = np.broadcast_shapes(a_ids.shape, b_ids.shape)
    if sum(length > 1 for length in shape) > 1:
        return False
    y_ids = coupled.give(y, shape, np.where(np.isfinite(result), result, np.nan))
    return all(_follow(node, k, ids, y_ids, coupled) for k, ids in enumerate((a_ids, b_ids)))


def _operand(value: ir.Value | None, rank: int, coupled: ChannelGroups) -> tuple[Ids, Float64] | None:
    """Ids and constants of an operand, with the rank of the result. The ids of a constant are only a shape."""
    if value is None:
        return None
    array = float64_constant(value)
    if array is None and dims_of(value) is None:
        return None
    ids = np.zeros(array.shape, np.int64) if array is not None else coupled.units.of(value)
    known = array if array is not None else coupled.known(value)
    if ids.ndim > rank:
        return None
    shape = (1,) * (rank - ids.ndim) + ids.shape
    return ids.reshape(shape), known.reshape(shape)


def _follow(node: ir.Node, index: int, ids: Ids, y_ids: Ids, coupled: ChannelGroups) -> bool:
    """Tie one operand to the result of one varying axis: a constant shrinks with it, one of length 1 is broadcast."""
    value = operand(node, index)
    rank = len(value.shape or ())
    if constant(value) is not None:
        if ids.size > 1:
            axis = next(k for k, length in enumerate(ids.shape) if length > 1)
            coupled.slots.append(Slot(node, index, axis - (ids.ndim - rank), y_ids.ravel(), "elementwise"))
        return True
    if node.op_type == op.Div and index == 1:
        coupled.divisors.append(ids.ravel())
    if ids.size == y_ids.size:
        coupled.units.tie_scales(y_ids, ids)
        return True
    axis = next(k for k, length in enumerate(y_ids.shape) if length > 1) - (ids.ndim - rank)
    return axis < 0 or static_length(value, axis) == 1
