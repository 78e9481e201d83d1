"""What an operator's parameters and attributes say of the shapes around it, where ONNX's inference gives up.

ONNX infers shapes forward, and loses all behind a Reshape to a computed shape. But the input of a convolution has as
many axes as its weight, a Transpose as many as its permutation, and so on, in both directions (`input_ranks`;
https://onnx.ai/onnx/operators): what follows here holds of every graph that runs at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from bnfold.graph import operators as op
from bnfold.graph.constants import attribute, constant, operand
from bnfold.graph.elements import Length, elements_of
from bnfold.graph.operators import kind_of

__all__ = [
    "CONVOLUTIONS",
    "POOLS",
    "REDUCTIONS",
    "SAME_RANK",
    "SAME_SHAPE",
    "Shapes",
    "first_rank",
    "list_length",
    "named_rank",
    "output_rank",
    "outputs_by_operator",
    "rank_of",
    "shape_of",
]

# The lengths of the axes of each output, or input, that is known; None for a length that is not.
Shapes = dict[int, Sequence[Length]]
_Rule = Callable[[ir.Node], Shapes]

# y = f(x) with the shape of x.
SAME_SHAPE = frozenset(
    {
        op.Abs, op.Acos, op.Asin, op.Atan, op.BatchNormalization, op.BitShift, op.Cast, op.CastLike, op.Ceil, op.Celu,
        op.Clip, op.Cos, op.CumSum, op.DequantizeLinear, op.Dropout, op.DynamicQuantizeLinear, op.Elu, op.Erf, op.Exp,
        op.EyeLike, op.Floor, op.Gelu, op.GroupNormalization, op.HardSigmoid, op.HardSwish, op.Hardmax, op.Identity,
        op.InstanceNormalization, op.IsInf, op.IsNaN, op.LRN, op.LayerNormalization, op.LeakyRelu, op.Log,
        op.LogSoftmax, op.LpNormalization, op.MeanVarianceNormalization, op.Mish, op.Neg, op.Not, op.QuantizeLinear,
        op.RMSNormalization, op.Reciprocal, op.Relu, op.Round, op.ScatterElements, op.ScatterND, op.Selu, op.Shrink,
        op.Sigmoid, op.Sign, op.Sin, op.Softmax, op.Softplus, op.Softsign, op.Sqrt, op.Swish, op.Tan, op.Tanh,
        op.ThresholdedRelu, op.Trilu,
    }
)  # fmt: skip
# y has the rank of x.
SAME_RANK = frozenset({op.DepthToSpace, op.Pad, op.Resize, op.Slice, op.SpaceToDepth, op.Split, op.Tile, op.Upsample})
POOLS = frozenset({op.AveragePool, op.GlobalAveragePool, op.GlobalLpPool, op.GlobalMaxPool, op.LpPool, op.MaxPool})
# Which input is the weight, (M, C / group, ...).
CONVOLUTIONS = {op.Conv: 1, op.ConvInteger: 1, op.QLinearConv: 3, op.ConvTranspose: 1}

REDUCTIONS = frozenset(
    {
        op.ArgMax, op.ArgMin, op.ReduceL1, op.ReduceL2, op.ReduceLogSum, op.ReduceLogSumExp, op.ReduceMax,
        op.ReduceMean, op.ReduceMin, op.ReduceProd, op.ReduceSum, op.ReduceSumSquare,
    }
)  # fmt: skip


def outputs_by_operator(node: ir.Node) -> Shapes:
    """The shapes of the outputs of a node, as far as they follow from its operator, parameters and inputs."""
    kind, x = kind_of(node), rank_of(node, 0)
    if kind in _FORWARD:
        return _FORWARD[kind](node)
    if kind in SAME_SHAPE and (shape := shape_of(node, 0)) is not None:
        return {0: shape}
    if kind in POOLS | SAME_RANK:
        rank = x if x is not None else named_rank(node)
        return {} if rank is None else dict.fromkeys(range(len(node.outputs)), [None] * rank)
    if kind in REDUCTIONS and x is not None:
        return _reduced(node, x)
    if kind == op.Concat and (rank := first_rank(node.inputs)) is not None:
        return {0: [None] * rank}
    return {}


def shape_of(node: ir.Node, index: int) -> list[Length] | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    return None if value is None or value.shape is None else list(value.shape)


def rank_of(node: ir.Node, index: int) -> int | None:
    shape = shape_of(node, index)
    return None if shape is None else len(shape)


def output_rank(node: ir.Node) -> int | None:
    """Of the first output, or of any part of a Split: other outputs, as the scale of a quantisation, have their own."""
    alike = node.outputs if kind_of(node) == op.Split else node.outputs[:1]
    return first_rank(alike)


def first_rank(values: Sequence[ir.Value | None]) -> int | None:
    return next((len(value.shape) for value in values if value is not None and value.shape is not None), None)


def list_length(node: ir.Node, index: int, name: str) -> int | None:
    """How long a list is that older opsets hold as an attribute and newer ones as an input."""
    if name in node.attributes:
        return len(attribute(node, name, ()))
    shape = shape_of(node, index)
    return shape[0] if shape is not None and len(shape) == 1 and isinstance(shape[0], int) else None


def named_rank(node: ir.Node) -> int | None:
    """The rank that a list with one entry, or two, for each axis has."""
    kind = kind_of(node)
    if kind in (op.DepthToSpace, op.SpaceToDepth):
        return 4
    if kind in POOLS:
        return len(attribute(node, "kernel_shape", ())) + 2 if "kernel_shape" in node.attributes else None
    if kind == op.Pad and (len(node.inputs) < 4 or node.inputs[3] is None):
        length = list_length(node, 1, "pads")
        return None if length is None else length // 2
    if kind == op.Tile:
        return list_length(node, 1, "repeats")
    if kind in (op.Resize, op.Upsample) and "axes" not in node.attributes:
        # Before opset 11 Resize has scales in second place, where the region of interest stands since; neither may be
        # empty then.
        first = 1 if len(node.inputs) < 3 else 2
        lengths = (
            list_length(node, k, "scales" if k == first else "") for k in range(first, max(len(node.inputs), first + 1))
        )
        return next((length for length in lengths if length), None)
    return None


def _convolved(node: ir.Node) -> Shapes:
    weight, x = shape_of(node, CONVOLUTIONS[kind_of(node)]), shape_of(node, 0)
    if weight is None or len(weight) < 3:
        return {}
    channels = weight[0]
    if kind_of(node) == op.ConvTranspose:
        channels = weight[1] * int(attribute(node, "group", 1)) if isinstance(weight[1], int) else None
    return {0: [x[0] if x else None, channels, *[None] * (len(weight) - 2)]}


def _gemm(node: ir.Node) -> Shapes:
    weight = shape_of(node, 1)
    columns = None if weight is None or len(weight) != 2 else weight[0 if attribute(node, "transB", 0) else 1]
    return {0: [None, columns]}


def _recurrent(node: ir.Node) -> Shapes:
    weight, hidden = shape_of(node, 1), attribute(node, "hidden_size", None)
    if attribute(node, "layout", 0):
        return {0: [None] * 3 + [hidden], 1: [None, None, hidden], 2: [None, None, hidden]}
    directions = weight[0] if weight else None
    return {0: [None, directions, None, hidden], 1: [directions, None, hidden], 2: [directions, None, hidden]}


def _transposed(node: ir.Node) -> Shapes:
    perm, x = attribute(node, "perm", None), shape_of(node, 0)
    if x is None:
        return {} if perm is None else {0: [None] * len(perm)}
    return {0: [x[axis] for axis in (perm if perm is not None else range(len(x))[::-1])]}


def _reshaped(node: ir.Node) -> Shapes:
    x = shape_of(node, 0)
    wanted = elements_of(operand(node, 1)) if len(node.inputs) > 1 else attribute(node, "shape", None)
    if wanted is None:
        return {}
    lengths: list[Length] = []
    for axis, length in enumerate(wanted):
        if length == 0 and not attribute(node, "allowzero", 0):
            lengths.append(x[axis] if x is not None and axis < len(x) else None)
        else:
            lengths.append(None if length == -1 else length)
    return {0: lengths}


def _axes(node: ir.Node) -> tuple[int, ...] | None:
    axes = attribute(node, "axes", None)
    if axes is None and len(node.inputs) > 1:
        axes = constant(node.inputs[1])
    return None if axes is None else tuple(int(axis) for axis in axes)


def _unsqueezed(node: ir.Node) -> Shapes:
    x, n_axes = rank_of(node, 0), list_length(node, 1, "axes")
    return {} if x is None or n_axes is None else {0: [None] * (x + n_axes)}


def _squeezed(node: ir.Node) -> Shapes:
    x, n_axes = rank_of(node, 0), list_length(node, 1, "axes")
    return {} if x is None or n_axes is None else {0: [None] * (x - n_axes)}


def _reduced(node: ir.Node, x: int) -> Shapes:
    if attribute(node, "keepdims", 1):
        return {0: [None] * x}
    n_axes = 1 if kind_of(node).startswith("Arg") else list_length(node, 1, "axes")
    return {} if not n_axes else {0: [None] * (x - n_axes)}


def _multiplied(node: ir.Node) -> Shapes:
    """MatMul of data, of three axes or more, and a matrix; of integers too."""
    x, weight = rank_of(node, 0), rank_of(node, 1)
    if x is None or weight is None or min(x, weight) < 2:
        return {}
    return {0: [None] * max(x, weight)}


def _einsum(node: ir.Node) -> Shapes:
    equation = str(attribute(node, "equation", "")).replace(" ", "")
    _, arrow, result = equation.partition("->")
    return {0: [None] * len(result)} if arrow and "." not in result else {}


_FORWARD: dict[str, _Rule] = {
    **dict.fromkeys(CONVOLUTIONS, _convolved),
    **dict.fromkeys((op.LSTM, op.GRU, op.RNN), _recurrent),
    **dict.fromkeys((op.MatMul, op.MatMulInteger), _multiplied),
    op.Einsum: _einsum,
    op.Flatten: lambda node: {0: [None, None]},  # noqa: ARG005
    op.Gemm: _gemm,
    op.NonZero: lambda node: {0: [None, None]},  # noqa: ARG005
    op.Reshape: _reshaped,
    op.Squeeze: _squeezed,
    op.Transpose: _transposed,
    op.Unsqueeze: _unsqueezed,
}
