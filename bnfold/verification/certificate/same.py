"""Operators that are the same, on values that are the same: they need no numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bnfold.verification.certificate.graph import Graph
from bnfold.verification.certificate.nodes import attributes_of, meaning_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnfold.verification.certificate.regions import Proven

__all__ = ["Same"]


class Same:
    """Compares operators and known values of a file and its source.

    Args:
        file: the graph that is judged.
        source: what it was made from.
        proven: what is known of a value of the file.
    """

    def __init__(self, file: Graph, source: Graph, proven: Callable[[str], tuple[Proven, ...]]) -> None:
        self._file, self._source, self._proven = file, source, proven

    def operator(self, k: int, name: str, other: str) -> bool:
        """Whether both are the same output of the same operator on the same values."""
        if other not in self._source.writers:
            return False
        node, j = self._file.nodes[k], self._source.writers[other]
        twin = self._source.nodes[j]
        if (node.op_type, node.domain) != (twin.op_type, twin.domain) or len(node.input) != len(twin.input):
            return False
        if list(node.output).index(name) != list(twin.output).index(other):
            return False
        meanings = {meaning_of(own, graph.opsets) for own, graph in ((node, self._file), (twin, self._source))}
        if attributes_of(node) != attributes_of(twin) or len(meanings) > 1:
            return False
        return all(self.value(a, b) for a, b in zip(node.input, twin.input, strict=True))

    def value(self, a: str, b: str) -> bool:
        if not a or not b:
            return a == b
        if self._file.is_known(a) or self._source.is_known(b):
            return self.known(a, b)
        wanted = self._source.alias(b)
        return any(one.counterpart.is_whole and one.source == wanted for one in self._proven(a))

    def known(self, a: str, b: str) -> bool:
        if not (self._file.is_known(a) and self._source.is_known(b)):
            return False
        if self._file.type(a) and self._source.type(b) and self._file.type(a) != self._source.type(b):
            return False
        if self._file.is_stored(a) and self._source.is_stored(b):
            first, second = self._file.stored(a), self._source.stored(b)
            is_float = first.dtype.kind == "f"
            return first.dtype == second.dtype and np.array_equal(first, second, equal_nan=is_float)
        ours = self._file.constant(a)
        if ours.dtype.kind == "O":
            return bool(np.array_equal(ours, self._source.constant(b)))
        for as_written in (False, True):
            theirs = self._source.constant(b, as_written=as_written)
            if ours.shape == theirs.shape and np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f"):
                return True
        return False
