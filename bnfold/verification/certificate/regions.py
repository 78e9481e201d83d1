"""Which operators of the two graphs lie between the same values.

A region of the file is what computes a value from values that have proven counterparts; the region of the source is
what computes the value's counterpart from theirs. Both are as small as they can be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnx import NodeProto, helper

from bnfold.graph import operators as op
from bnfold.graph.operators import kind_of
from bnfold.verification.certificate.graph import Graph
from bnfold.verification.certificate.nodes import holds_graph

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    import numpy as np

    from bnfold.records.certificate import Counterpart

__all__ = ["LARGE_REGION", "Proven", "Region", "Slice", "cuts"]

LARGE_REGION = 8  # operators; larger ones are listed
_MOST_CUTS = 24  # that are tried, each larger than the one before


@dataclass(frozen=True, eq=False)
class Proven:
    """A value of the file that is what its counterpart says.

    `source` is the first of equal values of the source. `source_constant` and `file_constant` are what elements always
    are, NaN where they vary, of the rank of the value and with length 1 along axes on which units are uniform; None
    where the counterpart is told everywhere, and nobody asks.
    """

    counterpart: Counterpart
    source: str
    source_constant: np.ndarray | None = None
    file_constant: np.ndarray | None = None


@dataclass(frozen=True)
class Slice:
    """Operators in their order, the values that they read from outside, and constants.

    Nodes read the first of equal values by its own name.
    """

    nodes: tuple[NodeProto, ...]
    leaves: tuple[str, ...]
    constants: tuple[str, ...]
    target: str

    @property
    def operators(self) -> tuple[NodeProto, ...]:
        """Without those that only give a value another name."""
        return tuple(node for node in self.nodes if kind_of(node) != op.Identity)


@dataclass(frozen=True)
class Region:
    """The operators of the file and of the source that compute a value and its counterpart."""

    file: Slice
    source: Slice


def sliced(graph: Graph, target: str, stop: Callable[[str], bool]) -> Slice:
    """What computes `target`, back to the values that `stop` names, to inputs and to what is known."""
    inner, leaves, constants = set[int](), dict[str, None](), dict[str, None]()
    todo = [graph.alias(target)]
    first = True
    while todo:
        name = todo.pop()
        if graph.is_known(name):
            constants[name] = None
        elif not first and stop(name):
            leaves[name] = None
        elif name in graph.writers:
            k = graph.writers[name]
            if k not in inner:
                inner.add(k)
                todo += [graph.alias(read) for read in graph.reads(k)]
        else:
            leaves[name] = None
        first = False
    nodes = tuple(node for k in sorted(inner) for node in _renamed(graph, k, inner))
    return Slice(nodes, tuple(leaves), tuple(constants), graph.alias(target))


def _renamed(graph: Graph, k: int, inner: Collection[int]) -> Iterator[NodeProto]:
    """The node, reading the first of equal values; what a body captures keeps its name, given to it by Identity."""
    node = graph.nodes[k]
    direct = set(node.input)
    for name in graph.reads(k):
        first = graph.alias(name)
        if first != name and name not in direct and graph.writers.get(first) in inner:
            yield helper.make_node(op.Identity, [first], [name])
    if all(graph.alias(name) == name for name in node.input):
        yield node
        return
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [graph.alias(name) if name else "" for name in node.input]
    yield copy


def captured_aliases(graph: Graph, part: Slice) -> dict[str, str]:
    """Names by which bodies in a slice read values that it has by another name."""
    found = {}
    for node in part.nodes:
        if holds_graph(node) and node.output[0] in graph.writers:
            for name in graph.reads(graph.writers[node.output[0]]):
                if graph.alias(name) != name:
                    found[name] = graph.alias(name)
    return found


def cuts(
    file: Graph, source: Graph, target: str, counterpart: str, proven: Callable[[str], tuple[Proven, ...]]
) -> Iterator[Region]:
    """Regions that compute a value and its counterpart from proven ones, the smallest first.

    Args:
        file: the graph that is judged.
        source: what it was made from.
        target: the value of the file; it may be proven for other counterparts already.
        counterpart: the first of equal values of the source.
        proven: what is known of a value of the file.
    """
    if proven(target):  # it stands for several values: from one to the next
        stops = {one.source for one in proven(target)}
        back = sliced(source, counterpart, stops.__contains__)
        if set(back.leaves) <= stops:
            yield Region(Slice((), (target,), (), target), back)
    opened: set[str] = {target}
    for _ in range(_MOST_CUTS):
        front = sliced(file, target, lambda name: name not in opened and bool(proven(name)))
        stops = {one.source for leaf in front.leaves for one in proven(leaf)}
        back = sliced(source, counterpart, lambda name, stops=stops: name in stops)  # type: ignore[misc]
        if set(back.leaves) <= stops:
            yield Region(front, back)
        wider = [leaf for leaf in front.leaves if leaf in file.writers]
        if not wider:
            return
        unused = [leaf for leaf in wider if not {one.source for one in proven(leaf)} & set(back.leaves)]
        opened.add(max(unused or wider, key=lambda leaf: file.writers[leaf]))
