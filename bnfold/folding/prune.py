"""Remove dead channels: what is always the same need not be computed.

A channel of constant value c, once it is read by linear operators only, leaves with everything that feeds it alone:

    y = sum_k W_k x_k + b,  x_j = c  ->  y = sum_{k != j} W_k x_k + (b + W_j c)

not across a zero-padded border, where x_j is c inside and 0 outside, unless c = 0.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from bnfold.folding.provenance import remove, take_over
from bnfold.folding.relations.affine import DEVIATION
from bnfold.folding.trace import trace_wires
from bnfold.folding.units import Ids
from bnfold.folding.wires import Slot, Wires
from bnfold.graph.constants import (
    attribute,
    constant_shape,
    float64_constant,
    is_only_use,
    nonzero,
    parameter,
    store_constant,
)
from bnfold.graph.layers import layer_name
from bnfold.numerics.affine import Float64

__all__ = ["remove_dead_channels"]


def remove_dead_channels(graph: ir.Graph, opset: int) -> int:
    """Remove the dead channels of a graph, in place; returns how many channels of written weights went.

    What is gone may leave another channel that no one reads: it is repeated until nothing goes.
    """
    total = 0
    while any(_has_zeros(node) for node in graph) and (n_removed := _remove_once(graph, opset)):
        total += n_removed
    return total


def _remove_once(graph: ir.Graph, opset: int) -> int:
    wires = trace_wires(graph, opset)
    gone = _removable(wires)
    if not gone.any():
        return 0
    n_removed = sum(int(gone[s.ids].sum()) for s in wires.slots if s.role == "write" and s.index == 1)
    for slot in wires.slots:
        if slot.role == "read" and gone[slot.ids].any():
            _take_constants(graph, slot, gone, wires.constants)
    for slot in wires.slots:
        if gone[slot.ids].any():
            _shrink(graph, slot, gone)
    for value, ids in wires.units.ids.items():
        if gone[ids].any() and value.shape is not None:
            value.shape = ir.Shape(_shape_without(value.shape, ids, gone))
            remove(value, gone[ids])
    for node in wires.flattens:
        if node.op_type == "Reshape" and node.inputs[0] is not None and gone[wires.units.of(node.inputs[0])].any():
            _as_flatten(graph, node)
    return n_removed


def _shape_without(shape: ir.Shape, ids: Ids, gone: NDArray[np.bool_]) -> list[int | ir.SymbolicDim]:
    """The lengths of a value's axes without the removed channels."""
    dims = list(shape)
    for axis, length in enumerate(ids.shape):
        if length > 1:
            dims[axis] = int((~gone[ids]).any(axis=tuple(k for k in range(ids.ndim) if k != axis)).sum())
    return dims


def _has_zeros(node: ir.Node) -> bool:
    """Whether a node may make a channel constant, or not read it: zeros along one of its weight, gamma or factor."""
    if node.op_type not in ("Conv", "Gemm", "MatMul", "BatchNormalization", "Mul"):
        return False
    if node.op_type in ("BatchNormalization", "Mul"):
        factors = (nonzero(value) for value in node.inputs[:2])
        return any(factor is not None and not factor.all() for factor in factors)
    shape = constant_shape(node.inputs[1])
    if shape is None or len(shape) < 2 or 0 in shape:
        return False
    tap = (0,) * (len(shape) - 2)
    parts: tuple[tuple[slice | int, ...], ...] = ((slice(None), 0, *tap), (0, slice(None), *tap))
    edges = (nonzero(node.inputs[1], part) for part in parts)
    if all(edge is not None and edge.all() for edge in edges):
        return False  # as most often: an element of every row and of every column is none
    weight = nonzero(node.inputs[1])
    if weight is None:
        return False
    rows, columns = weight.any(axis=tuple(range(1, weight.ndim))), weight.any(axis=(0, *range(2, weight.ndim)))
    return not (rows.all() and columns.all())


def _needs(slot: Slot, constants: Float64) -> NDArray[np.bool_]:
    """Which channels a reader cannot do without: those with weights, unless a bias can take what they contribute."""
    weight = parameter(slot.node, slot.index)
    used = weight.any(axis=tuple(k for k in range(weight.ndim) if k != slot.axis))
    inert = constants == 0 if slot.only_zero else ~np.isnan(constants)
    needs: NDArray[np.bool_] = used & ~inert
    return needs


def _removable(wires: Wires) -> NDArray[np.bool_]:
    """Which ids go: wires that no reader needs, of which each parameter keeps one at least."""
    n_ids = wires.units.n_ids
    pairs = wires.units.equal_scales
    left, right = (np.concatenate([np.zeros(1, np.int64), *(np.ravel(p[k]) for p in pairs)]) for k in (0, 1))
    links = coo_matrix((np.ones(left.size, np.int8), (left, right)), shape=(n_ids, n_ids))
    n_wires, wire = connected_components(links, directed=False)
    needed = np.zeros(n_wires, bool)
    read = np.zeros(n_wires, bool)
    needed[wire[0]] = True
    for slot in wires.slots:
        if slot.role == "read":
            read[wire[slot.ids]] = True
            needed[wire[slot.ids[_needs(slot, wires.constants[slot.ids])]]] = True
    gone = read & ~needed
    for slot in wires.slots:
        if gone[wire[slot.ids]].all():
            gone[wire[slot.ids[0]]] = False
    per_id: NDArray[np.bool_] = gone[wire]
    return per_id


def _take_constants(graph: ir.Graph, slot: Slot, gone: NDArray[np.bool_], constants: Float64) -> None:
    """Put what the removed inputs of a linear operator contribute into its bias: b + W_j c."""
    node, weight = slot.node, parameter(slot.node, 1)
    value = np.where(gone[slot.ids], np.nan_to_num(constants[slot.ids]), 0.0)  # what varies has weights 0
    shift = np.tensordot(value, weight, axes=(0, slot.axis))
    shift = shift.reshape(shift.shape[0], -1).sum(axis=1)
    if not shift.any():
        return
    old = float64_constant(node.inputs[2]) if len(node.inputs) > 2 else None
    alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
    shift = shift * alpha / beta if node.op_type == "Gemm" else shift
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    _put(graph, node, 2, shift if old is None else old + shift)


def _shrink(graph: ir.Graph, slot: Slot, gone: NDArray[np.bool_]) -> None:
    """Take the removed channels out of one parameter; a bias that the node does not have stays absent."""
    if slot.index >= len(slot.node.inputs) or slot.node.inputs[slot.index] is None:
        return
    keep = np.flatnonzero(~gone[slot.ids])
    array = parameter(slot.node, slot.index)
    if array.shape[slot.axis] != slot.ids.size:
        return  # a bias of one element for all channels
    _put(graph, slot.node, slot.index, array.take(keep, axis=slot.axis))
    if slot.index == 1 and DEVIATION in slot.node.meta:
        slot.node.meta[DEVIATION] = slot.node.meta[DEVIATION].take(keep)
    if slot.role == "write" and slot.index == 1 and attribute(slot.node, "group", 1) > 1:
        slot.node.attributes["group"] = ir.AttrInt64("group", keep.size)


def _put(graph: ir.Graph, node: ir.Node, index: int, array: Float64) -> None:
    old = node.inputs[index]
    like = old if old is not None else node.inputs[1]
    if like is None or like.dtype is None:
        raise ValueError(f"{node.op_type} `{layer_name(node)}` has no parameter to take the type from")
    name = old.name if old is not None and old.name else f"{layer_name(node)}.bias"
    if old is not None and is_only_use(graph, old):
        node.replace_input_with(index, None)
        del graph.initializers[name]
    node.replace_input_with(index, store_constant(graph, name, array, like.dtype, rounded=False))


def _as_flatten(graph: ir.Graph, node: ir.Node) -> None:
    new = ir.node("Flatten", [node.inputs[0]], {"axis": 1}, name=node.name, metadata_props=dict(node.metadata_props))
    new.outputs[0].type, new.outputs[0].shape = node.outputs[0].type, node.outputs[0].shape
    graph.insert_before(node, new)
    take_over(new.outputs[0], node.outputs[0])
    ir.convenience.replace_all_uses_with(node.outputs[0], new.outputs[0])
    graph.remove(node, safe=True)
