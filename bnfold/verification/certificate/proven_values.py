"""What is proven of the values of one graph of the file, and the elements of these that always are one number."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from bnfold.errors import InputRefused
from bnfold.graph import operators as op
from bnfold.graph.operators import kind_of
from bnfold.records.certificate import Counterpart
from bnfold.verification.certificate.regions import Proven, Region, cuts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnfold.verification.certificate.graph import Graph
    from bnfold.verification.certificate.trial import Trial

__all__ = ["ProvenValues", "constrains"]

_DEEPEST = 12  # how many operators back constants are looked for


class ProvenValues:
    """Counterparts of the values of one graph that are proven, by the first of equal values.

    Args:
        file: the graph that is judged.
        source: what it was made from.
        outer: of the graph that this one stands in.
    """

    def __init__(self, file: Graph, source: Graph, outer: ProvenValues | None) -> None:
        self.file, self.source, self._outer = file, source, outer
        self._proven: dict[str, list[Proven]] = {}
        self._searched: set[str] = set()  # values whose constants have been looked for

    def add(self, name: str, proven: Proven) -> None:
        """Take in what is proven of a value, the first of equal ones."""
        self._proven.setdefault(name, []).append(proven)

    def pair_inputs(self) -> None:
        """The inputs of both graphs are the same values."""
        if self._outer is None:
            pairs = [(name, name) for name in self.file.inputs if name in self.source.inputs]
        else:
            pairs = list(zip(self.file.inputs, self.source.inputs, strict=False))
        for name, other in pairs:
            self.add(name, Proven(Counterpart(other), other))

    def of(self, name: str) -> tuple[Proven, ...]:
        """What is proven of a value of this graph, or of one around it."""
        first = self.file.alias(name)
        found = tuple(self._proven.get(first, ()))
        if not found and self._outer is not None and first not in self.file.writers:
            return self._outer.of(first)
        return found

    def read(self, region: Region) -> dict[str, tuple[Proven, ...]] | None:
        """The counterparts of what the file's operators read, those that the source's read first of all."""
        wanted = set(region.source.leaves)
        read = {}
        for leaf in region.file.leaves:
            every = self.of(leaf)
            used = tuple(one for one in every if one.source in wanted)
            if not every:
                return None
            read[leaf] = used or every[:1]
        return read

    def with_constants(self, read: Mapping[str, tuple[Proven, ...]], trial: Trial) -> dict[str, tuple[Proven, ...]]:
        """The same with the elements that always are one number, which readers may rely on."""
        return {leaf: self._rich(leaf, proven, trial, _DEEPEST) for leaf, proven in read.items()}

    def _rich(self, leaf: str, read: tuple[Proven, ...], trial: Trial, depth: int) -> tuple[Proven, ...]:
        """What is proven of a value, with the elements that always are one number, which its readers may rely on.

        They are found where they are computed, from those of what is read there.
        """
        first = self.file.alias(leaf)
        if first not in self.file.writers or first not in self._proven or not depth:
            return read
        if first not in self._searched:
            self._searched.add(first)
            self._proven[first] = [self._rich_one(first, one, trial, depth) for one in self._proven[first]]
        wanted = {one.source for one in read}
        return tuple(one for one in self._proven[first] if one.source in wanted)

    def _rich_one(self, first: str, one: Proven, trial: Trial, depth: int) -> Proven:
        def others(name: str) -> tuple[Proven, ...]:
            return () if self.file.alias(name) == first else self.of(name)

        for region in cuts(self.file, self.source, first, one.source, others):
            read = self.read(region)
            if read is None:
                continue
            rich = {leaf: self._rich(leaf, own, trial, depth - 1) for leaf, own in read.items()}
            try:
                found = trial.run(region, one.counterpart, rich, asked=True)
            except InputRefused:
                return one
            return dataclasses.replace(one, source_constant=found.source_constant, file_constant=found.file_constant)
        return one


def constrains(file: Graph, region: Region) -> bool:
    """Whether a value that is read obeys something that random numbers do not: rows of a Softmax sum to 1."""
    return any(_sums_to_one(file, leaf, 4) for leaf in region.file.leaves)


def _sums_to_one(file: Graph, name: str, depth: int) -> bool:
    if name not in file.writers or not depth:
        return False
    node = file.nodes[file.writers[name]]
    if kind_of(node) == op.Softmax:
        return True
    carries = kind_of(node) in (op.Cast, op.Dropout, op.Identity, op.Reshape, op.Transpose)
    return carries and _sums_to_one(file, node.input[0], depth - 1)
