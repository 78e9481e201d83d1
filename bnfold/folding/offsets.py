"""Offsets that hang together linearly: sparse elimination whose last steps can be taken back."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

__all__ = ["ZERO", "OffsetConflict", "Offsets"]

# The class whose offset is 0 for good.
ZERO = 0
# A dependent relation holds if it does so to float64 rounding of its terms, over a few hundred substitutions.
_ROUNDING = 256 * 2.0**-53
# A pivot this much smaller than the largest coefficient makes an offset 2**5 times as large, which others would read.
_SMALL_PIVOT = 2.0**-5

Row = dict[int, float]


class OffsetConflict(Exception):  # noqa: N818 - an outcome that the caller expects, not an error
    """A relation contradicts what is fixed."""


class Offsets:
    """Unknown d_c per class, some of them eliminated: `d_c = sum_k row[k] d_k + constant`.

    `cost[c]` says how much an offset of class c is worth avoiding: the cheapest class of a relation is eliminated, the
    others stay free, and free ones end at 0. So an offset goes to the bias of the nearest linear operator, not to a
    residual stream. A class that other relations or readers share, `private[c]` false, is not eliminated by a small
    coefficient: its offset would be large, and lose its digits where theirs are solved for.
    """

    def __init__(self, cost: Sequence[float], private: Sequence[bool]) -> None:
        self._cost = cost
        self._private = private
        self._rows: dict[int, tuple[Row, float]] = {}
        self._age: dict[int, int] = {}  # position in the order of elimination
        self._undo: list[int] = []

    def expand(self, c: int) -> tuple[Row, float]:
        """d_c in terms of free classes."""
        return self._reduce({c: 1.0}, 0.0)[:2]

    def relate(self, row: Row, constant: float) -> None:
        """Demand sum_k row[k] d_k = constant.

        Raises:
            OffsetConflict: it cannot hold.
        """
        free, shift, magnitude = self._reduce(row, 0.0)
        residual = constant - shift
        if not free:
            if abs(residual) > _ROUNDING * max(magnitude, abs(constant)):
                raise OffsetConflict
            return
        enough = _SMALL_PIVOT * max(abs(v) for v in free.values())
        able = [c for c, v in free.items() if abs(v) >= enough or self._private[c]]
        pivot = min(able, key=lambda c: (self._cost[c], -abs(free[c])))
        k = free.pop(pivot)
        self._rows[pivot] = ({c: -v / k for c, v in free.items()}, residual / k)
        self._age[pivot] = len(self._undo)
        self._undo.append(pivot)

    def _reduce(self, row: Row, constant: float) -> tuple[Row, float, float]:
        """The row in terms of free classes, its constant, and the largest term that entered it.

        A row holds only classes that were free when it was made: expanded oldest first, each class is met once, with
        all its terms added up.
        """
        magnitude = 0.0
        todo = {c: v for c, v in row.items() if c != ZERO}
        oldest = [(self._age[c], c) for c in todo if c in self._rows]
        heapq.heapify(oldest)
        while oldest:
            _, c = heapq.heappop(oldest)
            v = todo.pop(c)
            inner, shift = self._rows[c]
            constant += v * shift
            magnitude = max(magnitude, abs(v * shift))
            for k, w in inner.items():
                if k in self._rows and k not in todo:
                    heapq.heappush(oldest, (self._age[k], k))
                old = todo.get(k, 0.0)
                new = old + v * w
                # Terms that cancel to rounding are gone: what is left of them is no relation between offsets.
                todo[k] = 0.0 if abs(new) <= _ROUNDING * max(abs(old), abs(v * w)) else new
        free = {c: v for c, v in todo.items() if v}
        return free, constant, magnitude

    def mark(self) -> int:
        """A point to return to."""
        return len(self._undo)

    def rewind(self, mark: int) -> None:
        """Take back every relation since `mark`."""
        while len(self._undo) > mark:
            del self._rows[self._undo.pop()]

    def value(self, c: int) -> float:
        """d_c, with every free class at 0."""
        return self.expand(c)[1] if c in self._rows else 0.0

    def eliminated(self) -> list[int]:
        """The classes whose offset may differ from 0."""
        return list(self._rows)
