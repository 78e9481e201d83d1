"""Linear operators with constant weights: free in, free out.

    y = W x + b,   x' = a_x (x + d_x),   y' = a_y (y + d_y)
    W' = a_y W / a_x,   b' = a_y (b - W d_x + d_y)

Zero padding adds zeros of x' where zeros of x are meant, and so wants d_x = 0.
"""

from __future__ import annotations

import onnx_ir as ir

from bnfold.folding.gauge import Gauge
from bnfold.folding.relations.registry import Parameters, relation, rewrites, unhandled_attributes
from bnfold.folding.units import Refusal, Units
from bnfold.graph.constants import attribute, float64_constant, operand, parameter
from bnfold.graph.layers import layer_name
from bnfold.numerics.affine import Float64

__all__: list[str] = []

_CONV_ATTRIBUTES = dict.fromkeys(
    ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides", "output_padding", "output_shape")
)


def _weights(node: ir.Node) -> Float64 | Refusal:
    """The weight of a node whose weight, and bias if it has one, never change."""
    weight = float64_constant(node.inputs[1])
    if weight is None:
        return Refusal("its weight is not a constant")
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        bias = _bias(node)
        if bias is None:
            return Refusal("its bias is not a constant")
        if node.op_type != "Gemm" and bias.ndim != 1:
            return Refusal(f"its bias has {bias.ndim} axes")
    return weight


def _bias(node: ir.Node) -> Float64 | None:
    return float64_constant(node.inputs[2]) if len(node.inputs) > 2 else None


def _padded(node: ir.Node) -> bool:
    auto_pad = attribute(node, "auto_pad", "NOTSET")
    return auto_pad in ("SAME_UPPER", "SAME_LOWER") or (auto_pad == "NOTSET" and any(attribute(node, "pads", ())))


@relation("Conv", kind="linear")
def relate_conv(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Conv: x (N, C, ...), W (M, C / group, ...); grouped, depthwise, any spatial rank."""
    weight = _weights(node)
    refusal = weight if isinstance(weight, Refusal) else unhandled_attributes(node, _CONV_ATTRIBUTES)
    if refusal is not None or isinstance(weight, Refusal):
        return refusal
    x, y = node.inputs[0], node.outputs[0]
    if x is None or units.of(x).ndim != weight.ndim:
        return Refusal("the rank of its input is unknown")
    x_ids = units.channels(x, 1)
    if _padded(node):
        units.no_offset(x_ids, node, f"zero padding of Conv `{layer_name(node)}`")
    units.ids[y] = units.fresh((1, weight.shape[0], *[1] * (weight.ndim - 2)))
    return None


@rewrites("Conv")
def rewrite_conv(node: ir.Node, gauge: Gauge) -> Parameters:
    """W'[m, c] = a_y[m] W[m, c] / a_x[c of m's group], b' = a_y b - sum(W' a_x d_x) + c_y."""
    weight, group = parameter(node, 1), attribute(node, "group", 1)
    m, per_group = weight.shape[:2]
    inverse, offset = gauge.read(operand(node), 1, per_group * group)
    scale, constant = gauge.write(node.outputs[0], 1, m)
    owner = [k // (m // group) for k in range(m)]
    shape = (m, per_group, *[1] * (weight.ndim - 2))
    inverse, offset = (v.reshape(group, per_group)[owner].reshape(shape) for v in (inverse, offset))
    shift = (weight * offset).reshape(m, -1).sum(axis=1)
    bias = _bias(node)
    old = bias if bias is not None else 0.0
    column = (m, *[1] * (weight.ndim - 1))
    return _parameters(scale.reshape(column) * weight * inverse, scale * (old - shift) + constant, bias)


def _parameters(weight: Float64, new_bias: Float64, old_bias: Float64 | None) -> Parameters:
    """The new inputs; an absent bias that stays zero stays absent."""
    if old_bias is None and not new_bias.any():
        return {1: weight}
    return {1: weight, 2: new_bias}


@relation("ConvTranspose", kind="linear")
def relate_conv_transpose(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX ConvTranspose: x (N, C, ...), W (C, M / group, ...). Output pixels see unlike numbers of taps, so d_x = 0.

    A 1x1 kernel of stride 1 without padding is the exception: each output pixel has exactly one tap.
    """
    weight = _weights(node)
    refusal = weight if isinstance(weight, Refusal) else unhandled_attributes(node, _CONV_ATTRIBUTES)
    if refusal is not None or isinstance(weight, Refusal):
        return refusal
    x, y = node.inputs[0], node.outputs[0]
    if x is None or units.of(x).ndim != weight.ndim:
        return Refusal("the rank of its input is unknown")
    x_ids = units.channels(x, 1)
    pointwise = all(k == 1 for k in weight.shape[2:]) and all(s == 1 for s in attribute(node, "strides", ()))
    plain = not any(attribute(node, "pads", ())) and not any(attribute(node, "output_padding", ()))
    if not (
        pointwise
        and plain
        and attribute(node, "auto_pad", "NOTSET") == "NOTSET"
        and "output_shape" not in node.attributes
    ):
        units.no_offset(x_ids, node, f"the borders of ConvTranspose `{layer_name(node)}`")
    units.ids[y] = units.fresh((1, weight.shape[1] * attribute(node, "group", 1), *[1] * (weight.ndim - 2)))
    return None


@rewrites("ConvTranspose")
def rewrite_conv_transpose(node: ir.Node, gauge: Gauge) -> Parameters:
    """W'[c, m] = W[c, m] a_y[m of c's group] / a_x[c]: the output scale lies on axis 1, per group."""
    weight, group = parameter(node, 1), attribute(node, "group", 1)
    c, per_group = weight.shape[:2]
    m, tail = per_group * group, [1] * (weight.ndim - 2)
    inverse, offset = gauge.read(operand(node), 1, c)
    scale, constant = gauge.write(node.outputs[0], 1, m)
    owner = [k // (c // group) for k in range(c)]
    scaled = weight * inverse.reshape(c, 1, *tail) * scale.reshape(group, per_group)[owner].reshape(c, per_group, *tail)
    taps = weight.sum(axis=tuple(range(2, weight.ndim))) * offset.reshape(c, 1)
    shift = taps.reshape(group, c // group, per_group).sum(axis=1).reshape(m)
    bias = _bias(node)
    old = bias if bias is not None else 0.0
    return _parameters(scaled, scale * (old - shift) + constant, bias)


@relation("Gemm", kind="linear")
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
        return Refusal("with beta = 0 it ignores its bias")
    x = node.inputs[0]
    if x is None or units.of(x).ndim != 2:
        return Refusal("the rank of its input is unknown")
    units.channels(x, 1)
    units.ids[node.outputs[0]] = units.fresh((1, weight.shape[0 if attribute(node, "transB", 0) else 1]))
    return None


@rewrites("Gemm")
def rewrite_gemm(node: ir.Node, gauge: Gauge) -> Parameters:
    """alpha W' = a_y alpha W / a_x, beta b' = a_y (beta b - alpha W d_x) + c_y.

    alpha and beta stay as they are; the division by them is exact where they are powers of two, as exporters write.
    """
    weight = parameter(node, 1)
    alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
    matrix = weight if not attribute(node, "transB", 0) else weight.T
    k, n = matrix.shape
    inverse, offset = gauge.read(operand(node), 1, k)
    scale, constant = gauge.write(node.outputs[0], 1, n)
    scaled = inverse[:, None] * matrix * scale
    bias = _bias(node)
    new_bias = scale * ((beta * bias if bias is not None else 0.0) - alpha * (offset @ matrix)) + constant
    return _parameters(scaled.T if attribute(node, "transB", 0) else scaled, new_bias / beta, bias)


@relation("MatMul", kind="linear")
def relate_matmul(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX MatMul: x (..., K) times a constant W (K, N). For an offset of y it becomes Gemm, or gains an Add."""
    weight = _weights(node)
    if isinstance(weight, Refusal):
        return weight
    x = node.inputs[0]
    if weight.ndim != 2 or x is None or units.of(x).ndim < 2:
        return Refusal("it is not (..., K) times a constant matrix (K, N)")
    rank = units.of(x).ndim
    units.channels(x, rank - 1)
    units.ids[node.outputs[0]] = units.fresh((*[1] * (rank - 1), weight.shape[1]))
    return None


@rewrites("MatMul")
def rewrite_matmul(node: ir.Node, gauge: Gauge) -> Parameters:
    """W' = a_y W / a_x; the bias -a_y W d_x + c_y is given as a third input, for `apply` to place."""
    weight = parameter(node, 1)
    inverse, offset = gauge.read(operand(node), -1, weight.shape[0])
    scale, constant = gauge.write(node.outputs[0], -1, weight.shape[1])
    return _parameters(inverse[:, None] * weight * scale, constant - scale * (offset @ weight), None)
