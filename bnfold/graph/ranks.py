"""What an operator's parameters and attributes say of the shapes around it, where ONNX's inference gives up.

ONNX infers shapes forward, and loses all behind a Reshape to a computed shape. But the input of a convolution has as
many axes as its weight, a Transpose as many as its permutation, and so on, in both directions (`input_ranks`;
https://onnx.ai/onnx/operators): what follows here holds of every graph that runs at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

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
        "Abs", "Acos", "Asin", "Atan", "BatchNormalization", "BitShift", "Cast", "CastLike", "Ceil", "Celu", "Clip",
        "Cos", "CumSum", "DequantizeLinear", "Dropout", "DynamicQuantizeLinear", "Elu", "Erf", "Exp", "EyeLike",
        "Floor", "Gelu", "GroupNormalization", "HardSigmoid", "HardSwish", "Hardmax", "Identity",
        "InstanceNormalization", "IsInf", "IsNaN", "LRN", "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax",
        "LpNormalization", "MeanVarianceNormalization", "Mish", "Neg", "Not", "QuantizeLinear", "RMSNormalization",
        "Reciprocal", "Relu", "Round", "ScatterElements", "ScatterND", "Selu", "Shrink", "Sigmoid", "Sign", "Sin",
        "Softmax", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu", "Trilu",
    }
)  # fmt: skip
# y has the rank of x.
SAME_RANK = frozenset({"DepthToSpace", "Pad", "Resize", "Slice", "SpaceToDepth", "Split", "Tile", "Upsample"})
POOLS = frozenset({"AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool"})
# Which input is the weight, (M, C / group, ...).
CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3, "ConvTranspose": 1}

REDUCTIONS = frozenset(
    {
        "ArgMax", "ArgMin", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
        "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
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
    if kind == "Concat" and (rank := first_rank(node.inputs)) is not None:
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
    alike = node.outputs if kind_of(node) == "Split" else node.outputs[:1]
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
    if kind in ("DepthToSpace", "SpaceToDepth"):
        return 4
    if kind in POOLS:
        return len(attribute(node, "kernel_shape", ())) + 2 if "kernel_shape" in node.attributes else None
    if kind == "Pad" and (len(node.inputs) < 4 or node.inputs[3] is None):
        length = list_length(node, 1, "pads")
        return None if length is None else length // 2
    if kind == "Tile":
        return list_length(node, 1, "repeats")
    if kind in ("Resize", "Upsample") and "axes" not in node.attributes:
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
    if kind_of(node) == "ConvTranspose":
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
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    **dict.fromkeys(("MatMul", "MatMulInteger"), _multiplied),
    "Einsum": _einsum,
    "Flatten": lambda node: {0: [None, None]},  # noqa: ARG005
    "Gemm": _gemm,
    "NonZero": lambda node: {0: [None, None]},  # noqa: ARG005
    "Reshape": _reshaped,
    "Squeeze": _squeezed,
    "Transpose": _transposed,
    "Unsqueeze": _unsqueezed,
}
