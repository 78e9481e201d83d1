"""Pooling and resampling: averages keep any units that are uniform over the window; maxima want a > 0."""

from __future__ import annotations

import onnx_ir as ir

from bnfold.folding.relations.registry import relation
from bnfold.folding.units import Refusal, Units
from bnfold.graph import operators as op
from bnfold.graph.constants import attribute, constant, float64_constant
from bnfold.graph.shapes import dims_of
from bnfold.records.causes import Cause

__all__: list[str] = []


def _spatial(node: ir.Node, units: Units) -> Refusal | None:
    """Uniform units over the spatial axes; y keeps the ids of x."""
    x = node.inputs[0]
    if x is None or units.of(x).ndim < 3:
        return Refusal(Cause.UNKNOWN_SHAPE, "input")
    ids = units.of(x)
    units.ids[node.outputs[0]] = units.collapse(ids, range(2, ids.ndim))
    return None


@relation(op.GlobalAveragePool, kind="carry")
def relate_global_average_pool(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX GlobalAveragePool: the mean of a (x + d) is a (mean(x) + d)."""
    return _spatial(node, units)


@relation(op.AveragePool, kind="carry")
def relate_average_pool(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX AveragePool: as the mean, unless it counts padded zeros, which wants d = 0."""
    refusal = _spatial(node, units)
    padded = any(attribute(node, "pads", ())) or attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    if refusal is None and attribute(node, "count_include_pad", 0) and (padded or attribute(node, "ceil_mode", 0)):
        ids = units.of(node.outputs[0])
        units.no_offset(ids, node, Cause.PADDING)
        units.use(ids)
    return refusal


@relation(op.MaxPool, op.GlobalMaxPool, kind="other")
def relate_max_pool(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX MaxPool: max(a (x + d)) = a (max(x) + d) for a > 0; it pads with minus infinity."""
    if len(node.outputs) > 1 and node.outputs[1].uses():
        return Refusal(Cause.NO_RULE, "indices")
    refusal = _spatial(node, units)
    if refusal is None:
        units.keep_sign(units.of(node.outputs[0]), node)
    return refusal


@relation(op.ReduceMean, kind="carry")
def relate_reduce_mean(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX ReduceMean: uniform units over the reduced axes stay."""
    x = node.inputs[0]
    axes = attribute(node, "axes", None)
    if axes is None and len(node.inputs) > 1:
        axes = constant(node.inputs[1])
    if x is None or axes is None or len(axes) == 0 or dims_of(x) is None:
        return Refusal(Cause.NOT_CONSTANT, "axes")
    ids = units.of(x)
    reduced = {int(axis) % ids.ndim for axis in axes}
    ids = units.collapse(ids, reduced)
    units.ids[node.outputs[0]] = ids if attribute(node, "keepdims", 1) else ids.squeeze(tuple(reduced))
    return None


@relation(op.ReduceMax, kind="other")
def relate_reduce_max(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX ReduceMax: as the mean, with a > 0."""
    refusal = relate_reduce_mean(node, units)
    if refusal is None:
        units.keep_sign(units.of(node.outputs[0]), node)
    return refusal


@relation(op.Resize, op.Upsample, kind="carry")
def relate_resize(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Resize: the weights of each output pixel sum to 1, so units uniform over space stay."""
    x, y = node.inputs[0], node.outputs[0]
    before, after = (dims_of(x) if x is not None else None), dims_of(y)
    if before is None or after is None:
        return Refusal(Cause.UNKNOWN_SHAPE, "shapes")
    if attribute(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return Refusal(Cause.PADDING, "extrapolation")
    scales = next((s for s in map(float64_constant, node.inputs[1:]) if s is not None and s.size == len(before)), None)
    if scales is not None:
        resized = {k for k, scale in enumerate(scales) if scale != 1}
    else:
        resized = {k for k, (old, new) in enumerate(zip(before, after, strict=True)) if old != new}
    if resized & {0, 1}:
        return Refusal(Cause.NO_RULE, "resized axes")
    return _spatial(node, units)
