"""Linear operators with constant weights: free in, free out.

    y = W x + b,   x' = a_x (x + d_x),   y' = a_y (y + d_y)
    W' = a_y W / a_x,   b' = a_y (b - W d_x + d_y)

Zero padding adds zeros of x' where zeros of x are meant, and so wants d_x = 0.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnfold.folding.gauge import Gauge
from bnfold.folding.relations.attention import relate_weighted_mean
from bnfold.folding.relations.registry import Kind, Rewrite, relation, rewrites, unhandled_attributes
from bnfold.folding.units import Ids, Refusal, Units
from bnfold.graph import operators as op
from bnfold.graph.constants import attribute, constant_shape, float64_constant, operand, parameter, tensor_of
from bnfold.graph.scaled import Scaled
from bnfold.numerics.affine import Float64
from bnfold.records.causes import Cause

__all__: list[str] = []

_CONV_ATTRIBUTES = dict.fromkeys(
    ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides", "output_padding", "output_shape")
)


def _weights(node: ir.Node) -> tuple[int, ...] | Refusal:
    """The shape of the weight of a node whose weight, and bias if it has one, never change."""
    weight = constant_shape(node.inputs[1])
    if weight is None:
        return Refusal(Cause.NOT_CONSTANT, "weight")
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        bias = _bias(node)
        if bias is None:
            return Refusal(Cause.NOT_CONSTANT, "bias")
        if node.op_type != op.Gemm and bias.ndim != 1:
            return Refusal(Cause.INVALID, "bias", str(bias.ndim))
    return weight


def _bias(node: ir.Node) -> Float64 | None:
    return float64_constant(node.inputs[2]) if len(node.inputs) > 2 else None


def _padded(node: ir.Node) -> bool:
    auto_pad = attribute(node, "auto_pad", "NOTSET")
    return auto_pad in ("SAME_UPPER", "SAME_LOWER") or (auto_pad == "NOTSET" and any(attribute(node, "pads", ())))


def _channels_read(node: ir.Node, units: Units) -> tuple[tuple[int, ...], Ids] | Refusal:
    """The shape of a convolution's constant weight, and the ids of its input's channels."""
    weight = _weights(node)
    if isinstance(weight, Refusal):
        return weight
    refusal = unhandled_attributes(node, _CONV_ATTRIBUTES)
    if refusal is not None:
        return refusal
    x = node.inputs[0]
    if x is None or units.of(x).ndim != len(weight):
        return Refusal(Cause.UNKNOWN_SHAPE, "input")
    return weight, units.channels(x, 1)


@relation(op.Conv, kind="linear")
def relate_conv(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Conv: x (N, C, ...), W (M, C / group, ...); grouped, depthwise, any spatial rank."""
    found = _channels_read(node, units)
    if isinstance(found, Refusal):
        return found
    weight, x_ids = found
    if _padded(node):
        units.no_offset(x_ids, node, Cause.PADDING)
    units.ids[node.outputs[0]] = units.fresh((1, weight[0], *[1] * (len(weight) - 2)))
    return None


@rewrites(op.Conv)
def rewrite_conv(node: ir.Node, gauge: Gauge) -> Rewrite:
    """W'[m, c] = a_y[m] W[m, c] / a_x[c of m's group], b' = a_y b - sum(W' a_x d_x) + c_y."""
    weight, group = tensor_of(node, 1), attribute(node, "group", 1)
    m, per_group, *kernel = weight.shape.numpy()
    inverse, offset = gauge.read(operand(node), 1, per_group * group)
    scale, constant = gauge.write(node.outputs[0], 1, m)
    column, row = (m, *[1] * (len(kernel) + 1)), (-1, per_group, *[1] * len(kernel))
    owner = np.arange(m) // (m // group) if group > 1 else np.zeros(1, np.int64)
    scaled = Scaled(weight, scale.reshape(column), inverse.reshape(group, per_group)[owner].reshape(row))
    shift: Float64 | float = 0.0
    if offset.any():
        taps = parameter(node, 1).reshape(m, per_group, -1).sum(axis=2)
        shift = (taps * offset.reshape(group, per_group)[owner]).sum(axis=1)
    bias = _bias(node)
    old = bias if bias is not None else 0.0
    return _rewritten(scaled, scale * (old - shift) + constant, bias)


def _rewritten(weight: Scaled, new_bias: Float64, old_bias: Float64 | None) -> Rewrite:
    """The new inputs; a weight that stays as it is stays the same, an absent bias that stays zero stays absent."""
    parameters = _weight(weight)
    if old_bias is not None or new_bias.any():
        parameters[2] = new_bias
    return Rewrite(parameters)


def _weight(weight: Scaled) -> dict[int, Float64 | Scaled]:
    return {1: weight} if weight.factors else {}


@relation(op.ConvTranspose, kind="linear")
def relate_conv_transpose(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX ConvTranspose: x (N, C, ...), W (C, M / group, ...). Output pixels see unlike numbers of taps, so d_x = 0.

    A 1x1 kernel of stride 1 without padding is the exception: each output pixel has exactly one tap.
    """
    found = _channels_read(node, units)
    if isinstance(found, Refusal):
        return found
    weight, x_ids = found
    pointwise = all(k == 1 for k in weight[2:]) and all(s == 1 for s in attribute(node, "strides", ()))
    plain = not any(attribute(node, "pads", ())) and not any(attribute(node, "output_padding", ()))
    if not (
        pointwise
        and plain
        and attribute(node, "auto_pad", "NOTSET") == "NOTSET"
        and "output_shape" not in node.attributes
    ):
        units.no_offset(x_ids, node, Cause.PADDING)
    units.ids[node.outputs[0]] = units.fresh((1, weight[1] * attribute(node, "group", 1), *[1] * (len(weight) - 2)))
    return None


@rewrites(op.ConvTranspose)
def rewrite_conv_transpose(node: ir.Node, gauge: Gauge) -> Rewrite:
    """W'[c, m] = W[c, m] a_y[m of c's group] / a_x[c]: the output scale lies on axis 1, per group."""
    weight, group = tensor_of(node, 1), attribute(node, "group", 1)
    c, per_group, *kernel = weight.shape.numpy()
    m, tail = per_group * group, [1] * len(kernel)
    inverse, offset = gauge.read(operand(node), 1, c)
    scale, constant = gauge.write(node.outputs[0], 1, m)
    owner = np.arange(c) // (c // group) if group > 1 else np.zeros(1, np.int64)
    columns = scale.reshape(group, per_group)[owner].reshape(-1, per_group, *tail)
    scaled = Scaled(weight, inverse.reshape(c, 1, *tail), columns)
    shift: Float64 | float = 0.0
    if offset.any():
        taps = parameter(node, 1).reshape(c, per_group, -1).sum(axis=2) * offset.reshape(c, 1)
        shift = taps.reshape(group, c // group, per_group).sum(axis=1).reshape(m)
    bias = _bias(node)
    old = bias if bias is not None else 0.0
    return _rewritten(scaled, scale * (old - shift) + constant, bias)


@relation(op.Gemm, kind="linear")
def relate_gemm(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Gemm: y = alpha x W + beta b with x (M, K), W (K, N) or, with transB, (N, K)."""
    weight = _weights(node)
    refusal = (
        weight
        if isinstance(weight, Refusal)
        else unhandled_attributes(node, {"alpha": None, "beta": None, "transA": 0, "transB": None})
    )
    if refusal is not None or isinstance(weight, Refusal):
        return refusal
    if attribute(node, "beta", 1.0) == 0:
        return Refusal(Cause.NO_RULE, "beta")
    x = node.inputs[0]
    if x is None or units.of(x).ndim != 2:
        return Refusal(Cause.UNKNOWN_SHAPE, "input")
    units.channels(x, 1)
    units.ids[node.outputs[0]] = units.fresh((1, weight[0 if attribute(node, "transB", 0) else 1]))
    return None


@rewrites(op.Gemm)
def rewrite_gemm(node: ir.Node, gauge: Gauge) -> Rewrite:
    """alpha W' = a_y alpha W / a_x, beta b' = a_y (beta b - alpha W d_x) + c_y.

    alpha and beta stay as they are; the division by them is exact where they are powers of two, as exporters write.
    """
    weight, transposed = tensor_of(node, 1), bool(attribute(node, "transB", 0))
    alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
    k, n = weight.shape.numpy()[::-1] if transposed else weight.shape.numpy()
    inverse, offset = gauge.read(operand(node), 1, k)
    scale, constant = gauge.write(node.outputs[0], 1, n)
    scaled = (
        Scaled(weight, scale[:, None], inverse[None]) if transposed else Scaled(weight, inverse[:, None], scale[None])
    )
    bias = _bias(node)
    shift = alpha * _through(node, offset, transposed=transposed)
    new_bias = scale * ((beta * bias if bias is not None else 0.0) - shift) + constant
    return _rewritten(scaled, new_bias / beta, bias)


def _through(node: ir.Node, offset: Float64, *, transposed: bool = False) -> Float64 | float:
    """W d, for a weight (K, N) or, transposed, (N, K)."""
    if not offset.any():
        return 0.0
    weight = parameter(node, 1)
    through: Float64 = weight @ offset if transposed else offset @ weight
    return through


@relation(op.MatMul, kind="linear")
def relate_matmul(node: ir.Node, units: Units) -> Refusal | Kind | None:
    """ONNX MatMul: x (..., K) times a constant W (K, N). For an offset of y it becomes Gemm, or gains an Add."""
    weight = _weights(node)
    if isinstance(weight, Refusal):
        return relate_weighted_mean(node, units)
    x = node.inputs[0]
    if len(weight) != 2 or x is None or units.of(x).ndim < 2:
        return Refusal(Cause.NO_RULE, "matrix")
    rank = units.of(x).ndim
    units.channels(x, rank - 1)
    units.ids[node.outputs[0]] = units.fresh((*[1] * (rank - 1), weight[1]))
    return None


@rewrites(op.MatMul)
def rewrite_matmul(node: ir.Node, gauge: Gauge) -> Rewrite | None:
    """W' = a_y W / a_x; the bias -a_y W d_x + c_y, of which it has none, is for `apply` to place."""
    if constant_shape(node.inputs[1]) is None:
        return None  # of data
    weight = tensor_of(node, 1)
    k, n = weight.shape.numpy()
    inverse, offset = gauge.read(operand(node), -1, k)
    scale, constant = gauge.write(node.outputs[0], -1, n)
    scaled = Scaled(weight, inverse[:, None], scale[None])
    bias: Float64 = constant - scale * _through(node, offset)
    return Rewrite(_weight(scaled), bias if bias.any() else None)
