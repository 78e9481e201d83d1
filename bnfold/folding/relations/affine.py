"""Affine maps with constant coefficients, `y = s x + t`: BatchNormalization, and constant Mul, Div, Add, Sub.

They vanish if `a_x = a_y s` and `s d_x = d_y + t`. One that stays is rewritten in the units around it:

    y' = a_y (s (x' / a_x - d_x) + t) + c_y     s' = a_y s / a_x,   t' = a_y (t - s d_x) + c_y
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from bnfold.errors import InputRefused
from bnfold.folding.gauge import Gauge
from bnfold.folding.relations.operands import channel_axis, constant_operand, per_channel, slim
from bnfold.folding.relations.pointwise import relate_product, relate_sum
from bnfold.folding.relations.registry import Rewrite, relation, rewrites
from bnfold.folding.units import Ids, Refusal, Site, Units
from bnfold.graph import operators as op
from bnfold.graph.constants import attribute, float64_constant, operand
from bnfold.graph.layers import layer_name
from bnfold.graph.operators import kind_of
from bnfold.graph.shapes import static_length, static_size
from bnfold.numerics.affine import BatchNormParameters, Float64
from bnfold.records.causes import Cause

# ONNX's default for BatchNormalization: attributes are float32, and so is it.
_DEFAULT_EPSILON = float(np.float32(1e-5))

__all__ = ["batchnorm_parameters", "channel_affine"]


def batchnorm_parameters(node: ir.Node) -> BatchNormParameters | Refusal:
    """The parameters of an inference-mode BatchNormalization, in float64.

    epsilon is float32 in the file, whatever digits an exporter's graph still has; a float64 network keeps them.
    """
    if attribute(node, "training_mode", 0):
        return Refusal(Cause.TRAINING_MODE)
    if not attribute(node, "spatial", 1):
        return Refusal(Cause.NO_RULE, "spatial")
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        return Refusal(Cause.BATCH_STATISTICS)
    given = next(
        (
            value
            for value in node.inputs[1:5]
            if value is not None and value.is_graph_input() and value.const_value is not None
        ),
        None,
    )
    if given is not None:
        return Refusal(Cause.REPLACEABLE, found=given.name or "")
    arrays = [float64_constant(value) for value in node.inputs[1:5]]
    gamma, beta, mean, variance = [*arrays, None, None, None, None][:4]
    if gamma is None or beta is None or mean is None or variance is None:
        return Refusal(Cause.NOT_CONSTANT, "parameters")
    if {array.shape for array in (gamma, beta, mean, variance)} != {(gamma.size,)}:
        return Refusal(Cause.INVALID, "parameters")
    epsilon = attribute(node, "epsilon", _DEFAULT_EPSILON)
    is_double = node.outputs[0].dtype == ir.DataType.DOUBLE
    return BatchNormParameters(gamma, beta, mean, variance, epsilon if is_double else float(np.float32(epsilon)))


@relation(op.BatchNormalization, kind="affine")
def relate_batchnorm(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX BatchNormalization in inference: axis 1 of x (N, C, ...)."""
    parameters = batchnorm_parameters(node)
    if isinstance(parameters, Refusal):
        return parameters
    x, y = node.inputs[0], node.outputs[0]
    if x is None or units.of(x).ndim < 2:
        return Refusal(Cause.UNKNOWN_SHAPE, "channels")
    if y.shape is None:  # ONNX infers none before opset 7
        y.shape, y.type = x.shape, x.type
    if static_length(x, 1) not in {None, parameters.gamma.size}:
        return Refusal(Cause.INVALID, "channels")
    try:
        scale, shift = parameters.affine()
    except ValueError as error:
        raise InputRefused(
            str(error), where=f"BatchNormalization `{layer_name(node)}`", remedy="train it again or recalibrate it"
        ) from error
    x_ids = np.broadcast_to(units.channels(x, 1), scale.shape)
    y_ids = units.along(y, 1, scale.size)
    units.ids[y] = y_ids
    deviation = units.deviations.get(node, parameters.deviation())
    units.sites.append(
        Site(node, x, x_ids, y_ids.reshape(-1), scale, shift, static_size(y), parameters.mean, deviation)
    )
    return None


@rewrites(op.BatchNormalization)
def rewrite_batchnorm(node: ir.Node, gauge: Gauge) -> Rewrite:
    """A kept BatchNorm: gamma' = a_y gamma / a_x, beta' = a_y beta + c_y, mean' = a_x (mean + d_x).

    The mean is stored in the units of x: x' - mean' then cancels no more digits than x - mean did.
    """
    parameters = batchnorm_parameters(node)
    if isinstance(parameters, Refusal):
        raise ValueError(f"a refused BatchNorm has no units: {parameters}")  # noqa: TRY004 - a value of the node
    gamma, beta, mean = parameters.gamma, parameters.beta, parameters.mean
    inverse, _ = gauge.read(operand(node), 1, gamma.size)
    into, offset = gauge.write(operand(node), 1, gamma.size)
    out, constant = gauge.write(node.outputs[0], 1, gamma.size)
    return Rewrite({1: out * gamma * inverse, 2: out * beta + constant, 3: into * mean + offset})


def channel_affine(node: ir.Node, channels: int) -> tuple[ir.Value, Float64, Float64] | None:
    """(x, s, t) of a node that computes `y = s x + t` with one s and t per channel of axis 1, each of shape (C,)."""
    kind = kind_of(node)
    if kind == op.BatchNormalization:
        parameters = batchnorm_parameters(node)
        if isinstance(parameters, Refusal):
            return None
        return operand(node), *parameters.affine()
    found = constant_operand(node) if kind in (op.Add, op.Sub, op.Mul, op.Div) else None
    if found is None or found[0].shape is None:
        return None
    x, array, index = found
    constant = per_channel(array, len(found[0].shape), channels)
    if constant is None or (index == 0 and kind in (op.Sub, op.Div)):
        return None
    one, zero = np.ones(channels), np.zeros(channels)
    if kind in (op.Add, op.Sub):
        return x, one, constant if kind == op.Add else -constant
    if kind == op.Div and not constant.all():
        return None
    return x, constant if kind == op.Mul else 1 / constant, zero


def _fresh_for(units: Units, ids: Ids, array: Float64, axis: int | None) -> Ids:
    """Ids for y: those axes along which x differs, and the one along which the constant does."""
    shape = list(ids.shape)
    if axis is not None:
        shape[axis] = max(shape[axis], array.size)
    return units.fresh(shape)


@relation(op.Add, op.Sub, kind="affine")
def relate_add(node: ir.Node, units: Units) -> Refusal | None:
    """y = x + K or x - K: equal scales, K' = a_y (K - d_x) + c_y takes any offset. Without a constant: a sum."""
    operands = constant_operand(node)
    if operands is None:
        return _of_data(node, units, relate_sum)
    x, array, index = operands
    if array.ndim > units.of(x).ndim:
        return Refusal(Cause.NO_RULE, "broadcast")
    if node.op_type == op.Sub and index == 0:
        return Refusal(Cause.NO_RULE, "minuend")
    ids = units.of(x)
    if ids.ndim == 0:
        return Refusal(Cause.NO_RULE, "scalar")
    axis = channel_axis(array, ids.shape)
    y_ids = _fresh_for(units, ids, array, axis)
    units.tie_scales(y_ids, ids)
    units.ids[node.outputs[0]] = y_ids
    units.shifts.append(y_ids.ravel())
    _offer(node, units, axis, np.ones_like(array), -array if node.op_type == op.Sub else array)
    return None


@relation(op.Mul, op.Div, kind="affine")
def relate_mul(node: ir.Node, units: Units) -> Refusal | None:
    """y = K x or x / K: free scales, K' = a_y K / a_x, and d_y = K d_x. Without a constant: a gate."""
    operands = constant_operand(node)
    if operands is None:
        return _of_data(node, units, relate_product)
    x, array, index = operands
    if array.ndim > units.of(x).ndim:
        return Refusal(Cause.NO_RULE, "broadcast")
    if node.op_type == op.Div and index == 0:
        return Refusal(Cause.NONLINEAR, "divisor")
    if node.op_type == op.Div and not array.all():
        return Refusal(Cause.INVALID, "divisor")
    ids = units.of(x)
    if ids.ndim == 0:
        return Refusal(Cause.NO_RULE, "scalar")
    axis = channel_axis(array, ids.shape)
    if axis is None:
        units.no_offset(ids, node, Refusal(Cause.NO_RULE, "constant of several axes"))
        units.use(ids)
        units.ids[node.outputs[0]] = ids
        return None
    factor = 1 / array if node.op_type == op.Div else array
    y_ids = _fresh_for(units, ids, array, axis)
    units.relate_offsets(node, (y_ids.reshape(-1), -1.0), (ids.reshape(-1), factor.reshape(-1)))
    units.ids[node.outputs[0]] = y_ids
    _offer(node, units, axis, factor, np.zeros_like(array))
    return None


def _of_data(node: ir.Node, units: Units, relate: Callable[[ir.Node, Units], Refusal | None]) -> Refusal | None:
    for value in node.inputs:
        if value is not None:
            units.use(units.of(value))
    return relate(node, units)


def _offer(node: ir.Node, units: Units, axis: int | None, scale: Float64, shift: Float64) -> None:
    """Offer a constant Mul or Add as a site, where units and constant vary along one axis at most."""
    operands = constant_operand(node)
    if operands is None:
        raise ValueError(f"{node.op_type} {node.name} has no constant operand")
    x, array, _ = operands
    x_ids, y_ids = units.of(x), units.of(node.outputs[0])
    # The bias of a MatMul over more than two axes: without it the MatMul would gain the same Add again.
    bias = node.op_type == op.Add and y_ids.ndim > 2 and kind_of(x.producer() or node) == op.MatMul
    # A constant that is longer than the data broadcasts it: without the node y would have another shape.
    widens = axis is not None and array.size > 1 and static_length(x, axis) != array.size
    if axis is None or y_ids.size != y_ids.shape[axis] or bias or widens:
        if node.op_type not in (op.Add, op.Sub):
            units.use(x_ids)
        return
    length = (y_ids.size,)
    scale, shift = (np.broadcast_to(array.reshape(-1), length) for array in (scale, shift))
    ids = np.broadcast_to(x_ids.reshape(-1), length)
    units.sites.append(Site(node, x, ids, y_ids.reshape(-1), scale, shift, static_size(node.outputs[0])))


@rewrites(op.Add, op.Sub)
def rewrite_add(node: ir.Node, gauge: Gauge) -> Rewrite | None:
    """K' = a_y (K - d_x) + c_y, elementwise over the axes along which any of them varies."""
    operands = constant_operand(node)
    if operands is None:
        return None
    x, array, index = operands
    sign = -1.0 if node.op_type == op.Sub else 1.0
    y_ids = gauge.elements(node.outputs[0])
    new = gauge.scale[y_ids] * (sign * array - gauge.offset[gauge.elements(x)]) + gauge.constant[y_ids]
    return Rewrite({index: sign * slim(new, array.ndim)})


@rewrites(op.Mul, op.Div)
def rewrite_mul(node: ir.Node, gauge: Gauge) -> Rewrite | None:
    """K' = a_y K / a_x; for x / K, K' = a_x K / a_y."""
    operands = constant_operand(node)
    if operands is None:
        return None
    x, array, index = operands
    ratio = gauge.scale[gauge.elements(node.outputs[0])] * gauge.inverse[gauge.elements(x)]
    return Rewrite({index: slim(array / ratio if node.op_type == op.Div else array * ratio, array.ndim)})
