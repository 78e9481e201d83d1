"""Which operators ONNX Runtime's CPU provider computes in integers, and what each asks for.

Kernels by operator, between DequantizeLinear and QuantizeLinear (onnxruntime/core/optimizer/qdq_transformer): Conv ->
QLinearConv, Gemm -> QGemm, MatMul -> QLinearMatMul or MatMulIntegerToFloat, Add -> QLinearAdd, Concat -> QLinearConcat,
GlobalAveragePool, AveragePool, LeakyRelu -> QLinear...; what only moves elements runs on integers as they are.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from bnfold.graph import operators as op
from bnfold.graph.constants import attribute, constant
from bnfold.graph.operators import in_integers, kind_of
from bnfold.records.recipes import PrecisionReason

__all__ = [
    "CARRIERS",
    "JOINS",
    "LAYERS",
    "POOLS",
    "WEIGHTED",
    "activation_of",
    "channel_axis",
    "is_depthwise",
    "output_channels",
    "reads_one_position",
    "why_float",
]

WEIGHTED = in_integers("weights")
JOINS = in_integers("join")
POOLS = in_integers("pool")
CARRIERS = in_integers("move")
_ALL = in_integers("weights", "join", "pool", "move", "table")  # Relu and Clip: see `activation_of`
LAYERS = (op.Conv, op.Gemm, op.MatMul, op.Add)  # that the report names

_UNSIMULATED = frozenset(
    {op.Sigmoid, op.Softmax, op.Mul, op.Where, op.Split, op.Resize, op.Gather, op.ReduceMean, op.ConvTranspose}
)
"""What ONNX Runtime has kernels in integers for that are not simulated here (onnxruntime/contrib_ops/cpu/quantization,
qdq_transformer): nothing would prove a file that used them."""

_INT32_MAX = 2**31 - 1
_ACTIVATION_MAX, _WEIGHT_MAX = 255, 127


def why_float(node: ir.Node) -> PrecisionReason | None:
    """Why the operator itself has no integer kernel here; None where it has one."""
    kind = kind_of(node)
    values = [value for value in (*node.inputs, *node.outputs) if value is not None]
    if kind not in _ALL:
        return "no_simulation" if kind in _UNSIMULATED else "no_kernel"
    if node.outputs[0].dtype not in (ir.DataType.FLOAT, None) or values[0].dtype not in (ir.DataType.FLOAT, None):
        return "dtype"
    if kind in WEIGHTED:
        return _why_weighted_float(node, kind)
    if kind in JOINS and any(constant(value) is not None for value in node.inputs):
        return "no_kernel"
    if kind == op.MaxPool and len(node.outputs) > 1:
        return "no_kernel"
    if kind == op.AveragePool and attribute(node, "ceil_mode", 0):
        return "no_kernel"
    return None


def _why_weighted_float(node: ir.Node, kind: str) -> PrecisionReason | None:
    weight = constant(node.inputs[1])
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if weight is None or constant(node.inputs[0]) is not None or (bias is not None and constant(bias) is None):
        return "not_constant"
    if weight.dtype != np.float32:
        return "dtype"
    if kind == op.Conv and weight.ndim not in (3, 4, 5):
        return "no_kernel"
    if kind == op.MatMul and weight.ndim != 2:
        return "no_kernel"
    offset = constant(bias) if bias is not None else None
    if kind == op.Gemm and not _is_plain_gemm(node, weight, offset):
        return "no_kernel"
    terms = math.prod(weight.shape) // output_channels(node, weight)
    if terms * _ACTIVATION_MAX * _WEIGHT_MAX > _INT32_MAX // 2:  # the other half is the bias's
        return "accumulator"
    return None


def _is_plain_gemm(node: ir.Node, weight: np.ndarray, bias: np.ndarray | None) -> bool:
    """y = x W + b, one number of b for each column."""
    scales = (attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0))
    channels = weight.shape[0] if attribute(node, "transB", 0) else weight.shape[1]
    return scales == (1.0, 1.0) and not attribute(node, "transA", 0) and (bias is None or bias.shape == (channels,))


def output_channels(node: ir.Node, weight: np.ndarray) -> int:
    """How many output channels a weight has."""
    return int(weight.shape[channel_axis(node)])


def channel_axis(node: ir.Node) -> int:
    """The axis of a weight that counts the output channels."""
    if kind_of(node) == op.Conv:
        return 0
    return 0 if kind_of(node) == op.Gemm and attribute(node, "transB", 0) else 1


def activation_of(node: ir.Node) -> ir.Node | None:
    """The Relu or Clip of constant bounds that alone reads what a node writes: saturation does its work."""
    y = node.outputs[0]
    users = list(y.uses())
    if y.is_graph_output() or len(users) != 1:
        return None
    user = users[0].node
    if kind_of(user) == op.Relu:
        return user
    if kind_of(user) == op.Clip and users[0].idx == 0:
        bounds = [value for value in user.inputs[1:] if value is not None]
        numbers = [constant(value) for value in bounds]
        if all(number is not None for number in numbers):
            return user
    return None


def is_depthwise(node: ir.Node) -> bool:
    """Whether a convolution reads one channel for each that it writes."""
    weight = constant(node.inputs[1])
    return kind_of(node) == op.Conv and weight is not None and attribute(node, "group", 1) > 1 and weight.shape[1] == 1


def reads_one_position(node: ir.Node) -> bool:
    """Whether a convolution reads a pooled value, as those of squeeze-excite do."""
    x = node.inputs[0]
    sizes = list(x.shape)[2:] if kind_of(node) == op.Conv and x is not None and x.shape is not None else []
    return bool(sizes) and all(size == 1 for size in sizes)
