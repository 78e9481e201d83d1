"""Follow every channel of a graph from its writers to its readers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnfold.folding.relations import RULES
from bnfold.folding.relations.affine import batchnorm_parameters
from bnfold.folding.trace_pointwise import BINARY, UNARY, trace_binary, trace_unary
from bnfold.folding.units import Ids, Refusal
from bnfold.folding.wires import Slot, Wires
from bnfold.graph.constants import attribute, float64_constant
from bnfold.graph.shapes import dims_of
from bnfold.graph.subgraphs import captured
from bnfold.numerics.affine import Float64, batchnorm_affine

__all__ = ["trace_wires"]

# Layout operators that neither name a number of channels nor pick channels by position.
_SAFE_CARRY = frozenset(
    ("Identity", "Transpose", "Squeeze", "Unsqueeze", "Concat", "GlobalAveragePool", "AveragePool", "ReduceMean")
)


def trace_wires(graph: ir.Graph, opset: int) -> Wires:
    """Follow every channel of a graph from its writers to its readers."""
    wires = Wires(opset)
    for node in graph:
        for outer in captured(node):
            wires.stay(outer)
        if node.domain not in ("", "ai.onnx") or not _trace(node, wires):
            for value in node.inputs:
                if value is not None:
                    wires.stay(value)
            for value in node.outputs:
                wires.units.ids.pop(value, None)
    for output in graph.outputs:
        wires.stay(output)
    return wires


def _trace(node: ir.Node, wires: Wires) -> bool:
    """Trace one node; False if its neighbourhood must stay."""
    if node.op_type in ("Conv", "Gemm", "MatMul"):
        return _trace_linear(node, wires)
    if node.op_type in UNARY:
        return trace_unary(node, wires)
    if node.op_type in BINARY and len(node.inputs) == 2:
        return trace_binary(node, wires)
    if node.op_type in ("MaxPool", "GlobalMaxPool") and not any(y.uses() for y in node.outputs[1:]):
        return RULES[node.op_type].relate(node, wires.units) is None
    if node.op_type == "BatchNormalization":
        return _trace_batchnorm(node, wires)
    if node.op_type in ("Reshape", "Flatten"):
        return _trace_flatten(node, wires)
    if node.op_type in _SAFE_CARRY:
        before = len(wires.units.offset_pins)
        refusal = RULES[node.op_type].relate(node, wires.units)
        return refusal is None and len(wires.units.offset_pins) == before
    return False


def _trace_linear(node: ir.Node, wires: Wires) -> bool:
    weight = float64_constant(node.inputs[1])
    x, y = node.inputs[0], node.outputs[0]
    bias = float64_constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if weight is None or x is None or dims_of(x) is None or (len(node.inputs) > 2 and (bias is None or bias.ndim != 1)):
        return False
    if node.op_type == "Conv":
        return _trace_conv(node, wires, weight, bias)
    rank = len(dims_of(x) or ())
    transposed = bool(attribute(node, "transB", 0))
    if (
        weight.ndim != 2
        or attribute(node, "transA", 0)
        or (node.op_type == "Gemm" and not attribute(node, "beta", 1.0))
    ):
        return False
    out_axis, in_axis = (0, 1) if transposed else (1, 0)
    ids_x = _channels(wires, x, rank - 1, weight.shape[in_axis])
    wires.slots.append(Slot(node, 1, in_axis, ids_x, "read"))
    if node.op_type == "MatMul":
        wires.only_zero.append(ids_x)  # it has no bias to take another constant
    dead = ~weight.any(axis=in_axis)
    value = attribute(node, "beta", 1.0) * bias if bias is not None else np.zeros(dead.size)
    ids = wires.give(y, (*[1] * (rank - 1), dead.size), np.where(dead, value, np.nan))
    _write(wires, node, out_axis, ids.ravel())
    return True


def _trace_conv(node: ir.Node, wires: Wires, weight: Float64, bias: Float64 | None) -> bool:
    x, y = node.inputs[0], node.outputs[0]
    group, m = attribute(node, "group", 1), weight.shape[0]
    if x is None or group not in (1, m) or (group == m and weight.shape[1] != 1):
        return False
    padded = any(attribute(node, "pads", ())) or attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    shape = (1, m, *[1] * (weight.ndim - 2))
    ids_x = _channels(wires, x, 1, weight.shape[1] * group)
    rest = tuple(range(1, weight.ndim))
    dead = ~weight.any(axis=rest)
    old = bias if bias is not None else np.zeros(m)
    if group == 1:
        wires.slots.append(Slot(node, 1, 1, ids_x, "read"))
        if padded:
            wires.only_zero.append(ids_x)
        ids = wires.give(y, shape, np.where(dead, old, np.nan).reshape(shape))
    else:
        inside = wires.constants[ids_x]
        through = old + weight.sum(axis=rest) * inside
        known = np.where((inside == 0) | (not padded), through, np.nan)
        ids = wires.give(y, shape, np.where(dead, old, known).reshape(shape))
        wires.units.tie_scales(ids.ravel(), ids_x)
    _write(wires, node, 0, ids.ravel())
    return True


def _write(wires: Wires, node: ir.Node, axis: int, ids: Ids) -> None:
    """The weight and the bias, present or yet to come, follow what the node writes."""
    wires.slots.append(Slot(node, 1, axis, ids, "write"))
    wires.slots.append(Slot(node, 2, 0, ids, "write"))


def _channels(wires: Wires, value: ir.Value, axis: int, length: int) -> Ids:
    """The wires along one axis, shape (length,); those of a value of unknown make must stay."""
    return np.broadcast_to(wires.units.channels(value, axis), (length,))


def _trace_batchnorm(node: ir.Node, wires: Wires) -> bool:
    parameters = batchnorm_parameters(node)
    x = node.inputs[0]
    if isinstance(parameters, Refusal) or x is None:
        return False
    scale, shift = batchnorm_affine(*parameters)
    ids_x = _channels(wires, x, 1, scale.size)
    shape = (1, scale.size, *[1] * (len(dims_of(x) or ()) - 2))
    known = np.where(scale == 0, shift, scale * wires.constants[ids_x] + shift)
    ids = wires.give(node.outputs[0], shape, known.reshape(shape))
    wires.units.tie_scales(ids.ravel(), ids_x)
    wires.slots.extend(Slot(node, k, 0, ids.ravel(), "elementwise") for k in range(1, 5))
    return True


def _trace_flatten(node: ir.Node, wires: Wires) -> bool:
    """Only (N, C, ...) -> (N, C ...), which Flatten computes whatever C is."""
    x, y = node.inputs[0], node.outputs[0]
    before, after = (dims_of(x) if x is not None else None), dims_of(y)
    if before is None or after is None or len(after) != 2 or before[0] != after[0] or len(before) < 2:
        return False
    if RULES[node.op_type].relate(node, wires.units) is not None:
        return False
    wires.flattens.append(node)
    return True
