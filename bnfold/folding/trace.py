"""Follow every channel of a graph from its writers to its readers."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from bnfold.folding.channel_groups import ChannelGroups, Slot
from bnfold.folding.relations import RULES
from bnfold.folding.relations.affine import batchnorm_parameters
from bnfold.folding.trace_pointwise import BINARY, UNARY, trace_binary, trace_unary
from bnfold.folding.units import Ids, Refusal
from bnfold.graph import operators as op
from bnfold.graph.attempts import Failure, attempted
from bnfold.graph.constants import attribute, float64_constant
from bnfold.graph.layers import layer_name
from bnfold.graph.operators import kind_of
from bnfold.graph.shapes import dims_of
from bnfold.graph.subgraphs import captured
from bnfold.numerics.affine import Float64

__all__ = ["trace_channel_groups"]

# Operators that neither name a number of channels nor pick channels by position, and leave a constant what it is.
_SAFE_CARRY = frozenset(
    {op.AveragePool, op.Concat, op.Dropout, op.GlobalAveragePool, op.GlobalMaxPool, op.Identity, op.MaxPool, op.Pad}
    | {op.ReduceMax, op.ReduceMean, op.Resize, op.Squeeze, op.Transpose, op.Unsqueeze}
)


def trace_channel_groups(graph: ir.Graph, opset: int) -> ChannelGroups:
    """Follow every channel of a graph from its writers to its readers."""
    coupled = ChannelGroups(opset)
    for node in graph:
        for outer in captured(node):
            coupled.stay(outer)
        known = all(value is None or value.shape is not None for value in node.inputs)
        if not known or not _traced(node, coupled):
            for value in node.inputs:
                if value is not None:
                    coupled.stay(value)
            for value in node.outputs:
                coupled.units.ids.pop(value, None)
    for output in graph.outputs:
        coupled.stay(output)
    return coupled


def _traced(node: ir.Node, coupled: ChannelGroups) -> bool:
    """Trace one node, or leave no mark of it; False if its neighbourhood must stay."""
    mark = coupled.mark()
    outcome = attempted(f"the dead channels of {node.op_type}", f"`{layer_name(node)}`", lambda: _trace(node, coupled))
    if isinstance(outcome, Failure):
        coupled.take_back(mark)
        return False
    return outcome


def _trace(node: ir.Node, coupled: ChannelGroups) -> bool:
    """Trace one node; False if its neighbourhood must stay."""
    if kind_of(node) in (op.Conv, op.Gemm, op.MatMul):
        return _trace_linear(node, coupled)
    if kind_of(node) in UNARY:
        return trace_unary(node, coupled)
    if kind_of(node) in BINARY and len(node.inputs) == 2:
        return trace_binary(node, coupled)
    if kind_of(node) == op.BatchNormalization:
        return _trace_batchnorm(node, coupled)
    if kind_of(node) in (op.Reshape, op.Flatten):
        return _trace_flatten(node, coupled)
    return kind_of(node) in _SAFE_CARRY and _trace_carried(node, coupled)


def _trace_carried(node: ir.Node, coupled: ChannelGroups) -> bool:
    """y holds elements of x, or averages of one channel; with zeros among them, only a constant 0 stays what it is."""
    if kind_of(node) == op.Resize and len(node.inputs) > 3 and node.inputs[3] is not None:
        return False  # its sizes name a number of channels
    n_pins = len(coupled.units.offset_pins)
    if RULES[kind_of(node)].relate(node, coupled.units) is not None:
        return False
    coupled.settle()
    y = node.outputs[0]
    if "Pool" in node.op_type:
        coupled.pooled.append(coupled.units.of(y))
    if len(coupled.units.offset_pins) > n_pins and kind_of(node) in (op.AveragePool, op.Pad):
        ids, known = coupled.units.of(y), coupled.known(y)
        coupled.units.tie_scales(coupled.give(y, ids.shape, np.where(known == 0, 0.0, np.nan)), ids)
    return True


def _trace_linear(node: ir.Node, coupled: ChannelGroups) -> bool:
    weight = float64_constant(node.inputs[1])
    x, y = node.inputs[0], node.outputs[0]
    bias = float64_constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if weight is None or x is None or dims_of(x) is None or (len(node.inputs) > 2 and (bias is None or bias.ndim != 1)):
        return False
    if kind_of(node) == op.Conv:
        return _trace_conv(node, coupled, weight, bias)
    rank = len(dims_of(x) or ())
    transposed = bool(attribute(node, "transB", 0))
    if (
        weight.ndim != 2
        or attribute(node, "transA", 0)
        or (kind_of(node) == op.Gemm and not attribute(node, "beta", 1.0))
    ):
        return False
    out_axis, in_axis = (0, 1) if transposed else (1, 0)
    ids_x = _channels(coupled, x, rank - 1, weight.shape[in_axis])
    # A MatMul has no bias to take another constant than 0.
    coupled.slots.append(Slot(node, 1, in_axis, ids_x, "read", only_zero=kind_of(node) == op.MatMul))
    shift = attribute(node, "beta", 1.0) * bias if bias is not None else np.zeros(1)
    rows = attribute(node, "alpha", 1.0) * (weight if transposed else weight.T)
    known = _constant_rows(rows, coupled.constants[ids_x]) + shift
    ids = coupled.give(y, (*[1] * (rank - 1), known.size), known)
    _write(coupled, node, out_axis, ids.ravel())
    return True


def _constant_rows(rows: Float64, known: Float64) -> Float64:
    """W c of shape (M,), for W of shape (M, C) and the constants c; NaN where a row reads what varies."""
    varies = np.isnan(known)
    through = rows[:, ~varies] @ known[~varies]
    return np.where(rows[:, varies].any(axis=1), np.nan, through)


def _trace_conv(node: ir.Node, coupled: ChannelGroups, weight: Float64, bias: Float64 | None) -> bool:
    x, y = node.inputs[0], node.outputs[0]
    group, m = attribute(node, "group", 1), weight.shape[0]
    depthwise = group > 1 and weight.shape[:2] == (group, 1)
    if x is None or m % group or (group > 1 and weight.shape[1] == 1 and not depthwise):
        return False
    padded = any(attribute(node, "pads", ())) or attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    shape = (1, m, *[1] * (weight.ndim - 2))
    ids_x = _channels(coupled, x, 1, weight.shape[1] * group)
    taps = weight.reshape(*weight.shape[:2], -1)
    inside = coupled.constants[ids_x]
    known = np.where((inside == 0) | (not padded), inside, np.nan)
    if depthwise:
        constants = np.where(taps.any(axis=(1, 2)), taps.sum(axis=(1, 2)) * known, 0.0)
    else:
        coupled.slots.append(Slot(node, 1, 1, ids_x, "read", only_zero=padded, groups=group))
        split = taps.reshape(group, -1, *taps.shape[1:])
        rows = np.where(np.isnan(known.reshape(group, 1, -1)), split.any(axis=3), split.sum(axis=3))
        constants = np.concatenate([_constant_rows(*part) for part in zip(rows, known.reshape(group, -1), strict=True)])
    constants = constants + (bias if bias is not None else 0.0)
    ids = coupled.give(y, shape, constants.reshape(shape))
    if depthwise:
        coupled.units.tie_scales(ids.ravel(), ids_x)
    elif group > 1:
        coupled.groupings += [ids_x.reshape(group, -1), ids.reshape(group, -1)]
    _write(coupled, node, 0, ids.ravel())
    return True


def _write(coupled: ChannelGroups, node: ir.Node, axis: int, ids: Ids) -> None:
    """The weight and the bias, present or yet to come, follow what the node writes."""
    coupled.slots.append(Slot(node, 1, axis, ids, "write"))
    coupled.slots.append(Slot(node, 2, 0, ids, "write"))


def _channels(coupled: ChannelGroups, value: ir.Value, axis: int, length: int) -> Ids:
    """The channel groups along one axis, shape (length,); those of a value of unknown make must stay."""
    ids = coupled.units.channels(value, axis)
    coupled.settle()
    return np.broadcast_to(ids, (length,))


def _trace_batchnorm(node: ir.Node, coupled: ChannelGroups) -> bool:
    parameters = batchnorm_parameters(node)
    x = node.inputs[0]
    if isinstance(parameters, Refusal) or x is None:
        return False
    scale, shift = parameters.affine()
    ids_x = _channels(coupled, x, 1, scale.size)
    shape = (1, scale.size, *[1] * (len(dims_of(x) or ()) - 2))
    known = np.where(scale == 0, shift, scale * coupled.constants[ids_x] + shift)
    ids = coupled.give(node.outputs[0], shape, known.reshape(shape))
    coupled.units.tie_scales(ids.ravel(), ids_x)
    coupled.slots.extend(Slot(node, k, 0, ids.ravel(), "elementwise") for k in range(1, 5))
    return True


def _trace_flatten(node: ir.Node, coupled: ChannelGroups) -> bool:
    """Only (N, C, ...) -> (N, C ...), which Flatten computes whatever C is."""
    x, y = node.inputs[0], node.outputs[0]
    before, after = (dims_of(x) if x is not None else None), dims_of(y)
    if before is None or after is None or len(after) != 2 or len(before) < 2:
        return False
    if any(symbols for _, symbols in before[1:]) or after[1] != (math.prod(length for length, _ in before[1:]), ()):
        return False
    if RULES[kind_of(node)].relate(node, coupled.units) is not None:
        return False
    coupled.flattens.append(node)
    return True
