"""Operators of sequence models: recurrent cells read free units, embeddings write them, Gather picks elements."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnfold.folding.gauge import Gauge
from bnfold.folding.relations.registry import Rewrite, relation, rewrites
from bnfold.folding.units import Refusal, Units
from bnfold.graph import operators as op
from bnfold.graph.constants import attribute, constant, float64_constant, operand, parameter
from bnfold.graph.shapes import static_length
from bnfold.records.causes import Cause

__all__: list[str] = []


@relation(op.LSTM, op.GRU, op.RNN, kind="linear")
def relate_recurrent(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX LSTM, GRU, RNN: x (..., I) is read by W (directions, gates H, I); the output keeps its units."""
    weight = float64_constant(node.inputs[1])
    bias = node.inputs[3] if len(node.inputs) > 3 else None
    if weight is None or (bias is not None and float64_constant(bias) is None):
        return Refusal(Cause.NOT_CONSTANT, "input weights")
    x = node.inputs[0]
    if x is None or units.of(x).ndim != 3:
        return Refusal(Cause.UNKNOWN_SHAPE, "input")
    units.channels(x, 2)
    for value in [*node.inputs[2:3], *node.inputs[4:]]:
        if value is not None and value in units.ids:
            units.pin(units.of(value), node, Cause.NONLINEAR)
            units.use(units.of(value))
    return None


@rewrites(op.LSTM, op.GRU, op.RNN)
def rewrite_recurrent(node: ir.Node, gauge: Gauge) -> Rewrite:
    """W' = W / a_x and Wb' = Wb - W d_x, every direction and gate; B = [Wb, Rb], shape (directions, 2 gates H)."""
    weight = parameter(node, 1)
    bias = float64_constant(node.inputs[3]) if len(node.inputs) > 3 else None
    inverse, offset = gauge.read(operand(node), 2, weight.shape[2])
    shift = weight @ offset
    if bias is None and not shift.any():
        return Rewrite({1: weight * inverse})
    directions, rows = shift.shape
    old = bias if bias is not None else np.zeros((directions, 2 * rows))
    return Rewrite({1: weight * inverse, 3: old - np.concatenate([shift, np.zeros_like(shift)], axis=1)})


@relation(op.Gather, kind="carry")
def relate_gather(node: ir.Node, units: Units) -> Refusal | None:
    """ONNX Gather: an embedding (rows of a constant table, output free), or a constant choice of elements (carried)."""
    table = float64_constant(node.inputs[0])
    axis = attribute(node, "axis", 0)
    indices, y = node.inputs[1], node.outputs[0]
    if table is not None and table.ndim == 2 and axis == 0 and y.shape is not None:
        units.ids[y] = units.along(y, len(y.shape) - 1, table.shape[1])
        return None
    x = node.inputs[0]
    if x is None or indices is None or x not in units.ids:
        return Refusal(Cause.NO_RULE, "table")
    ids = units.of(x)
    axis %= max(ids.ndim, 1)
    if ids.shape[axis] == 1:
        if indices.shape is None:
            return Refusal(Cause.UNKNOWN_SHAPE, "indices")
        units.ids[y] = ids.reshape((*ids.shape[:axis], *[1] * len(indices.shape), *ids.shape[axis + 1 :]))
        return None
    positions = constant(indices)
    if positions is None or static_length(x, axis) != ids.shape[axis]:
        return Refusal(Cause.NOT_CONSTANT, "positions")
    units.ids[y] = ids.take(positions, axis=axis)
    return None


@rewrites(op.Gather)
def rewrite_gather(node: ir.Node, gauge: Gauge) -> Rewrite | None:
    """table' = a_y table + c_y for an embedding; a choice of elements has no parameters."""
    table = float64_constant(node.inputs[0])
    if table is None:
        return None
    scale, constant = gauge.write(node.outputs[0], -1, table.shape[1])
    return Rewrite({0: table * scale + constant})
