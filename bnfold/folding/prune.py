"""Remove dead channels: what is always the same need not be computed.

A channel of constant value c, once it is read by linear operators only, leaves with everything that feeds it alone:

    y = sum_k W_k x_k + b,  x_j = c  ->  y = sum_{k != j} W_k x_k + (b + W_j c)

not across a zero-padded border, where x_j is c inside and 0 outside, unless c = 0. Channels leave in whole blocks
(`bnfold.folding.blocks`); of dead ones that stay the readers take the constant all the same, and what writes them, and
what reads them, becomes 0.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bnfold.folding.blocks import Leaving, by_channel, leaving
from bnfold.folding.channel_groups import Slot
from bnfold.folding.provenance import remove, take_over, unlink
from bnfold.folding.trace import trace_channel_groups
from bnfold.folding.units import Deviations, Ids
from bnfold.graph import operators as op
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
from bnfold.graph.operators import kind_of
from bnfold.numerics.affine import Float64
from bnfold.records import RemovedChannels

__all__ = ["remove_dead_channels"]


# What the parameters of an elementwise operator are for a channel that is 0 before it and behind it.
_NEUTRAL: dict[str, tuple[float, ...]] = {
    op.BatchNormalization: (0.0, 1.0, 0.0, 0.0, 1.0), op.Mul: (1.0, 1.0), op.Div: (0.0, 1.0),
    op.Add: (0.0, 0.0), op.Sub: (0.0, 0.0),
}  # fmt: skip


def remove_dead_channels(
    graph: ir.Graph,
    opset: int,
    block: int,
    removed: dict[ir.Node, RemovedChannels],
    deviations: Deviations | None = None,
) -> int:
    """Remove the dead channels of a graph, in place; returns how many parameters of operators changed.

    What is gone may leave another channel that no one reads: it is repeated until nothing goes.

    Args:
        graph: the graph.
        opset: its version of ONNX's operators.
        block: channels leave in such blocks.
        removed: takes, for every linear operator that writes fewer channels now, how many it wrote and how many now.
        deviations: see `Units`; those of channels that leave go with them.
    """
    total, known = 0, {} if deviations is None else deviations
    while any(_has_zeros(node) for node in graph) and (n_changed := _remove_once(graph, opset, block, removed, known)):
        total += n_changed
    return total


def _remove_once(
    graph: ir.Graph, opset: int, block: int, removed: dict[ir.Node, RemovedChannels], deviations: Deviations
) -> int:
    coupled = trace_channel_groups(graph, opset)
    what = leaving(coupled, block)
    if not what.dead.any():
        return 0
    for slot in coupled.slots:
        if slot.role == "write" and slot.index == 1 and what.gone[slot.ids].any():
            _note(removed, slot, int((~what.gone[slot.ids]).sum()))
        if slot.role == "read" and what.dead[slot.ids].any():
            _take_constants(graph, slot, what.dead, coupled.constants)
    n_changed = sum(_shrink(graph, slot, what, deviations) for slot in coupled.slots if what.dead[slot.ids].any())
    for value, ids in coupled.units.ids.items():
        unlink(value, what.dead[ids])
        if what.gone[ids].any() and value.shape is not None:
            value.shape = ir.Shape(_shape_without(value.shape, ids, what.gone))
            remove(value, what.gone[ids])
    for node in coupled.flattens:
        if (
            kind_of(node) == op.Reshape
            and node.inputs[0] is not None
            and what.gone[coupled.units.of(node.inputs[0])].any()
        ):
            _as_flatten(graph, node)
    return n_changed


def _note(removed: dict[ir.Node, RemovedChannels], slot: Slot, n_after: int) -> None:
    n_before = removed[slot.node].n_before if slot.node in removed else slot.ids.size
    removed[slot.node] = RemovedChannels(layer_name(slot.node), n_before, n_after)


def _shape_without(shape: ir.Shape, ids: Ids, gone: NDArray[np.bool_]) -> list[int | ir.SymbolicDim]:
    """The lengths of a value's axes without the removed channels."""
    dims = list(shape)
    for axis, length in enumerate(ids.shape):
        if length > 1:
            dims[axis] = int((~gone[ids]).any(axis=tuple(k for k in range(ids.ndim) if k != axis)).sum())
    return dims


def _has_zeros(node: ir.Node) -> bool:
    """Whether a node may make a channel constant, or not read it: zeros along one of its weight, gamma or factor."""
    if kind_of(node) not in (op.Conv, op.Gemm, op.MatMul, op.BatchNormalization, op.Mul):
        return False
    if kind_of(node) in (op.BatchNormalization, op.Mul):
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


def _take_constants(graph: ir.Graph, slot: Slot, dead: NDArray[np.bool_], constants: Float64) -> None:
    """Put what the dead inputs of a linear operator contribute into its bias: b + W_j c."""
    node, weight = slot.node, parameter(slot.node, 1)
    value = np.where(dead[slot.ids], np.nan_to_num(constants[slot.ids]), 0.0)  # what varies has weights 0
    if not value.any():
        return
    split = weight.reshape(slot.groups, -1, *weight.shape[1:])
    parts = zip(value.reshape(slot.groups, -1), split, strict=True)
    shift = np.concatenate([np.tensordot(own, rows, axes=(0, slot.axis)) for own, rows in parts])
    shift = shift.reshape(shift.shape[0], -1).sum(axis=1)
    if not shift.any():
        return
    old = float64_constant(node.inputs[2]) if len(node.inputs) > 2 else None
    alpha, beta = attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0)
    shift = shift * alpha / beta if kind_of(node) == op.Gemm else shift
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    _put(graph, node, 2, shift if old is None else old + shift)


def _shrink(graph: ir.Graph, slot: Slot, what: Leaving, deviations: Deviations) -> bool:
    """Take the channels that leave out of one parameter, and make those that idle 0; whether that changed anything.

    A bias that the node does not have stays absent.
    """
    if slot.index >= len(slot.node.inputs) or slot.node.inputs[slot.index] is None:
        return False
    keep, idle = np.flatnonzero(~what.gone[slot.ids]), np.flatnonzero(what.idle[slot.ids])
    array = by_channel(parameter(slot.node, slot.index), slot)
    if array.shape[slot.axis] != slot.ids.size:
        return False  # a bias of one element for all channels
    channels = np.moveaxis(array, slot.axis, 0)
    neutral = _neutral(slot)
    changed = keep.size < slot.ids.size or (neutral is not None and bool((channels[idle] != neutral).any()))
    if not changed:
        return False
    if neutral is not None:
        channels[idle] = neutral
    _put(graph, slot.node, slot.index, _by_group(array.take(keep, axis=slot.axis), slot))
    if slot.index == 1 and slot.node in deviations:
        deviations[slot.node] = deviations[slot.node].take(keep)
    if slot.role == "write" and slot.index == 1 and attribute(slot.node, "group", 1) == slot.ids.size > 1:
        slot.node.attributes["group"] = ir.AttrInt64("group", keep.size)
    return True


def _neutral(slot: Slot) -> float | None:
    """What an idle channel's parameter becomes; None where it stays as it is."""
    if slot.role != "elementwise":
        return 0.0
    known = _NEUTRAL.get(slot.node.op_type)
    return None if known is None else known[slot.index]


def _by_group(array: Float64, slot: Slot) -> Float64:
    """(M, g C, ...) as (g M, C, ...), the inverse of `by_channel`."""
    if slot.groups == 1:
        return array
    split = array.reshape(array.shape[0], slot.groups, -1, *array.shape[2:])
    return np.moveaxis(split, 1, 0).reshape(-1, *split.shape[2:])


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
    new = ir.node(op.Flatten, [node.inputs[0]], {"axis": 1}, name=node.name, metadata_props=dict(node.metadata_props))
    new.outputs[0].type, new.outputs[0].shape = node.outputs[0].type, node.outputs[0].shape
    graph.insert_before(node, new)
    take_over(new.outputs[0], node.outputs[0])
    ir.convenience.replace_all_uses_with(node.outputs[0], new.outputs[0])
    graph.remove(node, safe=True)
