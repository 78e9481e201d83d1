"""Max with a constant: it commutes with any change of units whose scale is positive."""

from __future__ import annotations

import onnx_ir as ir

from bnfold.folding.gauge import Gauge
from bnfold.folding.relations.operands import channel_axis, constant_operand, slim
from bnfold.folding.relations.registry import Rewrite, relation, rewrites
from bnfold.folding.units import Refusal, Units
from bnfold.graph import operators as op
from bnfold.records.causes import Cause

__all__: list[str] = []


@relation(op.Max, kind="other")
def relate_max(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Max of data and a constant per channel: max commutes with a > 0 and any d; K' = a (K + d)."""
    found = constant_operand(node)
    if found is None:
        return Refusal(Cause.NO_RULE, "maximum of data")
    x, array, _ = found
    ids = units.of(x)
    if array.ndim > ids.ndim or channel_axis(array, ids.shape) is None:
        return Refusal(Cause.NO_RULE, "constant per channel")
    units.keep_sign(ids, node)
    units.ids[node.outputs[0]] = ids
    return None


@rewrites(op.Max)
def rewrite_max(node: ir.Node, gauge: Gauge) -> Rewrite | None:
    """K' = a K + c, elementwise over the axes along which any of them varies."""
    found = constant_operand(node)
    if found is None:
        return None
    x, array, index = found
    ids = gauge.elements(x)
    return Rewrite({index: slim(gauge.scale[ids] * array + gauge.constant[ids], array.ndim)})
