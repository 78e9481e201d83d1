"""Normalisations that depend on the data: the input keeps its units, the output is free through scale and bias.

y = n(x) w + b,   w' = a_y w,   b' = a_y b + c_y
"""

from __future__ import annotations

import onnx_ir as ir

from bnfold.folding.gauge import Gauge
from bnfold.folding.relations.registry import Rewrite, relation, rewrites
from bnfold.folding.units import Refusal, Units
from bnfold.graph import operators as op
from bnfold.graph.constants import attribute, float64_constant, parameter
from bnfold.graph.operators import kind_of
from bnfold.graph.shapes import static_length
from bnfold.records.causes import Cause

__all__: list[str] = []

_CHANNEL_AXIS = {op.LayerNormalization: -1, op.InstanceNormalization: 1, op.GroupNormalization: 1}


@relation(op.LayerNormalization, op.InstanceNormalization, op.GroupNormalization, kind="other")
def relate_norm(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX LayerNormalization of the last axis, InstanceNormalization, GroupNormalization with a scale per channel."""
    x, y = node.inputs[0], node.outputs[0]
    weight = float64_constant(node.inputs[1])
    bias = float64_constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if (
        x is None
        or weight is None
        or weight.ndim != 1
        or (len(node.inputs) > 2 and node.inputs[2] is not None and bias is None)
    ):
        return Refusal(Cause.NOT_CONSTANT, "scale and bias")
    rank = units.of(x).ndim
    if y.shape is None:
        return Refusal(Cause.UNKNOWN_SHAPE, "output")
    if node.op_type == op.LayerNormalization and attribute(node, "axis", -1) % max(rank, 1) != rank - 1:
        return Refusal(Cause.NO_RULE, "axes")
    if node.op_type == op.GroupNormalization and weight.size != static_length(x, 1):
        return Refusal(Cause.NO_RULE, "scale per group")
    units.pin(units.of(x), node, Cause.DATA_STATISTICS)
    units.ids[y] = units.along(y, _CHANNEL_AXIS[kind_of(node)], weight.size)
    return None


@rewrites(op.LayerNormalization, op.InstanceNormalization, op.GroupNormalization)
def rewrite_norm(node: ir.Node, gauge: Gauge) -> Rewrite:
    """w' = a_y w, b' = a_y b + c_y; an absent bias that stays zero stays absent."""
    weight = parameter(node, 1)
    bias = float64_constant(node.inputs[2]) if len(node.inputs) > 2 else None
    scale, constant = gauge.write(node.outputs[0], _CHANNEL_AXIS[kind_of(node)], weight.size)
    if bias is None and not constant.any():
        return Rewrite({1: scale * weight})
    return Rewrite({1: scale * weight, 2: (scale * bias if bias is not None else 0.0) + constant})
