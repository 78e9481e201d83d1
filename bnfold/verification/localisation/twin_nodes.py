"""Which node of another graph a node of the file stands for: by what it reads, or by the name of what it writes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bnfold.verification.localisation.float64_nodes import Nodes, same_attributes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import NodeProto

__all__ = ["Twins"]


class Twins:
    """The nodes of one graph for those of another.

    Args:
        file: the graph that is judged.
        other: the graph it is compared with.
    """

    def __init__(self, file: Nodes, other: Nodes) -> None:
        self._file = file
        self._other = other
        self._readers: dict[tuple[str, str], list[NodeProto]] = {}
        for node in other.nodes:
            for name in other.reads(node):
                self._readers.setdefault((node.op_type, name), []).append(node)

    def of(self, node: NodeProto, counterparts: Sequence[str | None]) -> NodeProto | None:
        """The node of the other graph with the same operator that reads `counterparts`, which are this one's inputs."""
        if not counterparts:
            alike = (n for n in self._other.nodes if n.op_type == node.op_type and n.output == node.output)
            return next(alike, None)
        first = counterparts[0]
        if first is None or None in counterparts:
            return None
        readers = self._readers.get((node.op_type, first), [])
        twins = [other for other in readers if list(self._other.reads(other)) == list(counterparts)]
        if not self._file.parameters(node):  # two Transposes of one value
            twins = [other for other in twins if same_attributes(node, other)]
        return min(twins, key=lambda other: self._unlikeness(node, other), default=None)

    def names(self, node: NodeProto, twin: NodeProto | None) -> dict[str, str]:
        """Names in the other graph of the node's outputs; outputs of the whole graph are compared by name."""
        names = {name: name for name in node.output if name in self._other.writers}
        if twin is not None:
            pairs = zip(node.output, twin.output, strict=False)
            names |= {a: b for a, b in pairs if a and b and a not in self._file.outputs}
        return names

    def _unlikeness(self, node: NodeProto, other: NodeProto) -> tuple[bool, bool, float]:
        """Orders the nodes that could be the same one: by name of the output, then by shape and size of parameters."""
        ours, theirs = list(self._file.parameters(node).values()), list(self._other.parameters(other).values())
        alike = [a.shape for a in ours] == [b.shape for b in theirs]
        distance = sum(float(np.abs(a - b).sum()) for a, b in zip(ours, theirs, strict=True)) if alike else math.inf
        return node.output[0] != other.output[0], not alike, distance
