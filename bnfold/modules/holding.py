"""Hold units to what can be written into a module: no offset without a bias, no other constant in the code of forward.

A layer that is called twice has one weight, so the units around its calls are the same.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from bnfold.folding.relations import RULES
from bnfold.folding.units import Ids, Refusal, Units
from bnfold.graph import operators as op
from bnfold.graph.constants import float64_constant
from bnfold.graph.operators import kind_of
from bnfold.modules.places import Place
from bnfold.modules.slots import ELEMENTWISE, NoParameter, Slots, scope_of
from bnfold.records.causes import Cause

__all__ = ["restrict"]


def restrict(slots: Slots, units: Units) -> None:
    """Hold the units to what can be written, after the relations of the graph: no offsets, or no change at all."""
    for node in slots.no_offsets:
        why = Refusal(Cause.NO_PARAMETER, "bias")
        for value in (node.inputs[0], node.outputs[0]):
            if value in units.ids and value is not None:
                units.no_offset(units.of(value), node, why)
    for node in slots.rigid:
        _hold(node, units)
    for nodes in _shared(slots):
        _tie(slots, nodes, units)


def _hold(node: ir.Node, units: Units) -> None:
    """K' = K: equal scales for a product; for a sum equal offsets and, unless K = 0, scale 1."""
    x = next((value for value in node.inputs if value in units.ids and float64_constant(value) is None), None)
    y = node.outputs[0]
    if x is None or y not in units.ids or node in units.refused:
        return
    units.tie_scales(units.of(y), units.of(x))
    if kind_of(node) in (op.Add, op.Sub):
        units.tie(units.of(y), units.of(x))
        arrays = (float64_constant(value) for value in node.inputs)
        if not any(array is not None and array.any() for array in arrays):
            return
        units.keep_scale(units.of(y), node, NoParameter("constant").refusal)


def _shared(slots: Slots) -> Iterator[list[ir.Node]]:
    """Operators that read one place: a layer that is called twice."""
    users: dict[tuple[str, Place], list[ir.Node]] = {}
    for node in slots.graph:
        rule = RULES.get(kind_of(node))
        if rule is None or rule.rewrite is None or node in slots.failed:
            continue
        place = _main_place(slots, node)
        if place is not None:
            users.setdefault((kind_of(node), place), []).append(node)
    yield from (nodes for nodes in users.values() if len(nodes) > 1)


def _main_place(slots: Slots, node: ir.Node) -> Place | None:
    if kind_of(node) == op.BatchNormalization:
        return slots.place_of_statistic(node, 4)
    weight = kind_of(node).weight
    index = 1 if weight is None else weight
    value = node.inputs[index] if index < len(node.inputs) else None
    numbers = slots.numbers(value)
    if numbers is None or not numbers.size:
        return None
    name = slots.elements.parameters(numbers.reshape(-1)[:1])
    # Two cuts of one parameter (queries and keys) are two: they share a place only if they share elements.
    place = slots.places.of(name[0][0], scope_of(node)) if name else None
    return None if place is None else Place(place.path, f"{place.attribute}[{int(numbers.reshape(-1)[0])}]")


def _tie(slots: Slots, nodes: list[ir.Node], units: Units) -> None:
    """The same units around all of them, so that one parameter serves all."""
    ends = [_ends(node, units) for node in nodes]
    first = ends[0]
    for node, own in zip(nodes[1:], ends[1:], strict=True):
        for mine, theirs in zip(own, first, strict=True):
            if mine is None or theirs is None or (mine.size != theirs.size and 1 not in (mine.size, theirs.size)):
                slots.failed[node] = NoParameter("shared")
            else:
                units.tie(mine, theirs)


def _ends(node: ir.Node, units: Units) -> tuple[Ids | None, Ids | None]:
    """The ids of what an operator reads and writes, along the channels."""
    kind = kind_of(node)
    axis = kind.channels or 1
    x, y = node.inputs[0], node.outputs[0]
    if kind in ELEMENTWISE:
        return None, None
    read = units.channels(x, axis) if x in units.ids and x is not None and units.of(x).ndim else np.zeros(1, np.int64)
    written = units.of(y).reshape(-1) if y in units.ids else np.zeros(1, np.int64)
    return read, written
