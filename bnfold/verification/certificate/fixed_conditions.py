"""Which `If`s always take one branch: their condition is fixed, whatever the lengths that the inputs leave open.

A condition that holds at the sizes of a proof alone decides nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bnfold.graph import operators as op
from bnfold.graph.operators import kind_of

if TYPE_CHECKING:
    from bnfold.verification.certificate.graph import Graph
    from bnfold.verification.certificate.graph_values import GraphValues

__all__ = ["taken_always"]

_SHAPES = frozenset({op.Shape, op.Size})
_PICKS = frozenset({op.Gather, op.Slice})  # of a shape: the lengths that are picked count, the others do not


def taken_always(graph: Graph, other: Graph) -> frozenset[str]:
    """The first outputs of the `If`s, in all bodies too, whose condition no open length can change.

    Args:
        graph: at some sizes.
        other: the same graph, in which every length is another one that an input leaves open.
    """
    found: set[str] = set()
    for k, node in enumerate(graph.nodes):
        if kind_of(node) == op.If and _is_fixed(graph, other, node.input[0]):
            found.add(node.output[0])
        for (_, body), (_, twin) in zip(graph.bodies(k), other.bodies(k), strict=True):
            found |= taken_always(body, twin)
    return frozenset(found)


def _is_fixed(graph: Graph, other: Graph, name: str) -> bool:
    """Whether a value does not depend on open lengths, by what it is computed from."""
    todo, seen = [name], set[str]()
    while todo:
        value = todo.pop()
        owner, twin = graph.owner(value), other.owner(value)
        if value in seen or graph.is_constant(value):
            continue
        seen.add(value)
        if owner is None or twin is None or not (owner.is_known(value) and twin.is_known(value)):
            return False
        k = owner.writers[value]
        if kind_of(owner.nodes[k]) not in _SHAPES and not _picks_lengths(owner, k):
            todo += owner.reads(k)
        elif not np.array_equal(owner.constant(value), twin.constant(value)):
            return False
    return True


def _picks_lengths(graph: GraphValues, k: int) -> bool:
    data = graph.alias(graph.nodes[k].input[0]) if kind_of(graph.nodes[k]) in _PICKS else ""
    owner = graph.owner(data)
    return owner is not None and data in owner.writers and kind_of(owner.nodes[owner.writers[data]]) in _SHAPES
