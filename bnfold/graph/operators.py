"""The operator table: what the rooms need to know of an operator, one line each.

All rooms name operators by it (`op.Conv`), and ask `kind_of` which one a node is. Sources
of the facts: https://onnx.ai/onnx/operators; of `integers` and KEEPS_BLOCKS, ONNX Runtime's qdq_transformer and
nchwc_transformer (onnxruntime/core/optimizer).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.graph import costs
from bnfold.graph.operator_facts import Integers, Operator, Trait

if TYPE_CHECKING:
    import onnx_ir as ir
    from onnx import NodeProto

__all__ = ["Operator", "Trait", "having", "in_integers", "is_onnx", "kind_of"]

_ONNX = frozenset({"", "ai.onnx"})

_POINT = Trait.POINTWISE
_CURVE = Trait.POINTWISE | Trait.CURVED
_RELU = Trait.POINTWISE | Trait.HOMOGENEOUS
_LINEAR = Trait.LINEAR | Trait.PARAMETRIC
_CELL = Trait.RECURRENT | Trait.PARAMETRIC
_AFFINE = Trait.AFFINE | Trait.PARAMETRIC
_FACTOR = Trait.AFFINE | Trait.PARAMETRIC | Trait.POINTWISE
_SAME = Trait.SAME_VALUES | Trait.MOVES
_BLOCKS, _FLAT, _QUANTISED = Trait.KEEPS_BLOCKS, Trait.FLAT, Trait.QUANTISED

# Linear operators and cells
Conv = Operator("Conv", _LINEAR, weight=1, bias=2, channels=1, integers="weights", cost=costs.CONV)
ConvTranspose = Operator("ConvTranspose", _LINEAR, weight=1, bias=2, channels=1, cost=costs.CONV_TRANSPOSE)
Gemm = Operator("Gemm", _LINEAR, weight=1, bias=2, channels=1, integers="weights", cost=costs.GEMM)
MatMul = Operator("MatMul", _LINEAR, weight=1, channels=-1, integers="weights", cost=costs.MATMUL)
GRU = Operator("GRU", _CELL, weight=1, bias=3, channels=2, cost=costs.RECURRENT)
LSTM = Operator("LSTM", _CELL, weight=1, bias=3, channels=2, cost=costs.RECURRENT)
RNN = Operator("RNN", _CELL, weight=1, bias=3, channels=2, cost=costs.RECURRENT)

# Norms
BatchNormalization = Operator("BatchNormalization", _AFFINE, weight=1, bias=2, channels=1)
GroupNormalization = Operator("GroupNormalization", Trait.PARAMETRIC, weight=1, bias=2, channels=1)
InstanceNormalization = Operator("InstanceNormalization", Trait.PARAMETRIC, weight=1, bias=2, channels=1)
LayerNormalization = Operator("LayerNormalization", Trait.PARAMETRIC, weight=1, bias=2, channels=-1)
LRN = Operator("LRN", channels=1)
LpNormalization = Operator("LpNormalization")
MeanVarianceNormalization = Operator("MeanVarianceNormalization")
RMSNormalization = Operator("RMSNormalization")

# Arithmetic
Add = Operator("Add", _FACTOR | Trait.SUM | _BLOCKS, integers="join")
Sub = Operator("Sub", _FACTOR | Trait.SUM)
Mul = Operator("Mul", _FACTOR)
Div = Operator("Div", _FACTOR)
Sum = Operator("Sum", _POINT | Trait.SUM)
Mean = Operator("Mean", _POINT)
Max = Operator("Max", _POINT | Trait.MAXIMUM)
Min = Operator("Min", _POINT)
Pow = Operator("Pow", _POINT)
Where = Operator("Where", _POINT)
Equal = Operator("Equal", _POINT | Trait.COMPARES)
Greater = Operator("Greater", _POINT | Trait.COMPARES)
GreaterOrEqual = Operator("GreaterOrEqual", _POINT | Trait.COMPARES)
Less = Operator("Less", _POINT | Trait.COMPARES)
LessOrEqual = Operator("LessOrEqual", _POINT | Trait.COMPARES)
And = Operator("And")
BitShift = Operator("BitShift")
Mod = Operator("Mod")
Or = Operator("Or")
Xor = Operator("Xor")
Einsum = Operator("Einsum")
CumSum = Operator("CumSum")

# Functions of one value
Abs = Operator("Abs", _POINT)
Acos = Operator("Acos")
Asin = Operator("Asin")
Atan = Operator("Atan")
Ceil = Operator("Ceil", _POINT)
Celu = Operator("Celu", _CURVE)
Clip = Operator("Clip", _RELU | _FLAT | _BLOCKS)
Cos = Operator("Cos", _POINT)
Elu = Operator("Elu", _CURVE)
Erf = Operator("Erf", _CURVE)
Exp = Operator("Exp", _POINT)
Floor = Operator("Floor", _POINT)
Gelu = Operator("Gelu", _CURVE)
HardSigmoid = Operator("HardSigmoid", _CURVE | _FLAT | _BLOCKS)
HardSwish = Operator("HardSwish", _CURVE | _FLAT)
IsInf = Operator("IsInf")
IsNaN = Operator("IsNaN")
LeakyRelu = Operator("LeakyRelu", _RELU | _BLOCKS, integers="table")
Log = Operator("Log", _POINT)
Mish = Operator("Mish", _CURVE)
Neg = Operator("Neg", _POINT)
Not = Operator("Not")
PRelu = Operator("PRelu", _RELU | Trait.PARAMETRIC)
Reciprocal = Operator("Reciprocal", _POINT)
Relu = Operator("Relu", _RELU | _FLAT | _BLOCKS)
Round = Operator("Round", _POINT)
Selu = Operator("Selu", _CURVE)
Shrink = Operator("Shrink")
Sigmoid = Operator("Sigmoid", _CURVE | _BLOCKS)
Sign = Operator("Sign", _POINT)
Sin = Operator("Sin", _POINT)
Softplus = Operator("Softplus", _CURVE)
Softsign = Operator("Softsign", _CURVE)
Sqrt = Operator("Sqrt", _POINT)
Swish = Operator("Swish", _CURVE)
Tan = Operator("Tan")
Tanh = Operator("Tanh", _CURVE | _BLOCKS)
ThresholdedRelu = Operator("ThresholdedRelu", _CURVE | _FLAT)
Hardmax = Operator("Hardmax")
LogSoftmax = Operator("LogSoftmax", Trait.CURVED)
Softmax = Operator("Softmax", Trait.CURVED)

# Layout
Cast = Operator("Cast", _POINT | _SAME)
CastLike = Operator("CastLike", _POINT | _SAME)
Concat = Operator("Concat", Trait.MOVES, integers="join")
DepthToSpace = Operator("DepthToSpace")
Dropout = Operator("Dropout", _POINT)
Expand = Operator("Expand", _SAME)
Flatten = Operator("Flatten", _SAME, integers="move")
Gather = Operator("Gather", Trait.MOVES | Trait.PARAMETRIC, weight=0, channels=-1)
GatherND = Operator("GatherND", Trait.MOVES)
Identity = Operator("Identity", _POINT | _SAME)
Pad = Operator("Pad")
Reshape = Operator("Reshape", _SAME, integers="move")
Slice = Operator("Slice", Trait.MOVES, integers="move")
Split = Operator("Split", Trait.MOVES)
SplitToSequence = Operator("SplitToSequence")
SequenceAt = Operator("SequenceAt")
SpaceToDepth = Operator("SpaceToDepth")
Squeeze = Operator("Squeeze", _SAME, integers="move")
Tile = Operator("Tile")
Transpose = Operator("Transpose", Trait.MOVES, integers="move")
Trilu = Operator("Trilu")
Unsqueeze = Operator("Unsqueeze", _SAME, integers="move")

# Pooling, reduction and resampling
AveragePool = Operator("AveragePool", _BLOCKS, channels=1, integers="pool")
GlobalAveragePool = Operator("GlobalAveragePool", channels=1, integers="pool")
GlobalLpPool = Operator("GlobalLpPool")
GlobalMaxPool = Operator("GlobalMaxPool", Trait.MAXIMUM, channels=1)
LpPool = Operator("LpPool", channels=1)
MaxPool = Operator("MaxPool", Trait.MAXIMUM | _BLOCKS, channels=1, integers="move")
ArgMax = Operator("ArgMax")
ArgMin = Operator("ArgMin")
ReduceL1 = Operator("ReduceL1")
ReduceL2 = Operator("ReduceL2")
ReduceLogSum = Operator("ReduceLogSum")
ReduceLogSumExp = Operator("ReduceLogSumExp")
ReduceMax = Operator("ReduceMax", Trait.MAXIMUM)
ReduceMean = Operator("ReduceMean")
ReduceMin = Operator("ReduceMin")
ReduceProd = Operator("ReduceProd")
ReduceSum = Operator("ReduceSum")
ReduceSumSquare = Operator("ReduceSumSquare")
GridSample = Operator("GridSample", channels=1)
Resize = Operator("Resize")
Upsample = Operator("Upsample")

# Shapes, indices, control
Constant = Operator("Constant")
ConstantOfShape = Operator("ConstantOfShape")
EyeLike = Operator("EyeLike")
If = Operator("If")
Loop = Operator("Loop")
NonMaxSuppression = Operator("NonMaxSuppression")
NonZero = Operator("NonZero")
OneHot = Operator("OneHot")
ScatterElements = Operator("ScatterElements")
ScatterND = Operator("ScatterND")
Shape = Operator("Shape")
Size = Operator("Size")

# Random numbers
Bernoulli = Operator("Bernoulli", Trait.RANDOM)
Multinomial = Operator("Multinomial", Trait.RANDOM)
RandomNormal = Operator("RandomNormal", Trait.RANDOM)
RandomNormalLike = Operator("RandomNormalLike", Trait.RANDOM)
RandomUniform = Operator("RandomUniform", Trait.RANDOM)
RandomUniformLike = Operator("RandomUniformLike", Trait.RANDOM)

# Operators of com.microsoft, which ONNX Runtime's optimizers write
ContribGelu = Operator("com.microsoft::Gelu", _POINT)
MatMulIntegerToFloat = Operator("com.microsoft::MatMulIntegerToFloat", _QUANTISED, weight=1, channels=-1)
QGemm = Operator("com.microsoft::QGemm", _QUANTISED, weight=3, bias=6, channels=1)

# Quantised
ConvInteger = Operator("ConvInteger", _QUANTISED, weight=1, channels=1)
DequantizeLinear = Operator("DequantizeLinear", _QUANTISED)
DynamicQuantizeLinear = Operator("DynamicQuantizeLinear", _QUANTISED)
MatMulInteger = Operator("MatMulInteger", _QUANTISED, weight=1, channels=-1)
QLinearConv = Operator("QLinearConv", _QUANTISED, weight=3, bias=8, channels=1)
QLinearMatMul = Operator("QLinearMatMul", _QUANTISED, weight=3, channels=-1)
QuantizeLinear = Operator("QuantizeLinear", _QUANTISED)

_TABLE: dict[str, Operator] = {known: known for known in tuple(globals().values()) if isinstance(known, Operator)}


def is_onnx(domain: str) -> bool:
    """Whether a domain is that of ONNX's own operators, which has two names."""
    return domain in _ONNX


def kind_of(node: ir.Node | NodeProto) -> Operator:
    """The operator of a node: a name means something in its own domain only.

    One that the table does not have is known by its text alone (`com.example::Conv` is no `Conv`), and has no facts.
    """
    text = node.op_type if is_onnx(node.domain) else f"{node.domain}::{node.op_type}"
    known = _TABLE.get(text)
    return Operator(text) if known is None else known


def having(traits: Trait) -> frozenset[Operator]:
    """The operators of the table that have a trait, or any of several (`A | B`)."""
    return frozenset(known for known in _TABLE.values() if known.has(traits))


def in_integers(*kinds: Integers) -> frozenset[Operator]:
    """The operators of the table that ONNX Runtime computes on integers in one of these ways."""
    return frozenset(known for known in _TABLE.values() if known.integers in kinds)
