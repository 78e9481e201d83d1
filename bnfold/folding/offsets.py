"""Offsets that hang together linearly: sparse elimination whose last steps can be taken back."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from bnfold.folding.units import Ids
from bnfold.numerics.affine import Float64

__all__ = ["ZERO", "OffsetConflict", "Offsets", "OffsetsEntangled"]

# The class whose offset is 0 for good.
ZERO = 0
# A dependent relation holds if it does so to float64 rounding of its terms, over a few hundred substitutions.
_ROUNDING = 256 * 2.0**-53
# A pivot this much smaller than the largest coefficient makes an offset 2**5 times as large, which others would read.
_SMALL_PIVOT = 2.0**-5

Row = dict[int, float]
_NO_TERMS: Row = {}  # shared by all offsets that are known: one dict each would cost more than the solving


class OffsetsEntangled(Exception):  # noqa: N818 - an outcome that the caller expects, not an error
    """Relations that have to be taken one after the other."""


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
        self._costs = np.array(cost, np.float64)
        self._privates = np.array(private, bool)
        self._rows: dict[int, tuple[Row, float]] = {}
        # The same for the vectorised steps: which classes have a row, which of them refer to others, their constants.
        self._eliminated = np.zeros(len(cost), bool)
        self._open = np.zeros(len(cost), bool)
        self._constants = np.zeros(len(cost))
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
        self._eliminated[pivot], self._open[pivot], self._constants[pivot] = True, bool(free), residual / k

    def relate_apart(self, classes: Ids, coefficients: Float64, constants: Float64) -> int | None:
        """The same for many relations at once, all arrays of shape (terms, relations), constants (relations,).

        Returns:
            The first relation that contradicts what is fixed, else None.

        Raises:
            OffsetsEntangled: two of them share a class, or refer to one that others are known by; nothing is changed.
        """
        live = (classes != ZERO) & (coefficients != 0)
        known = live & self._eliminated[classes]
        free = live & ~known
        shared = np.sort(classes[free])
        if (self._open[classes] & known).any() or (shared[1:] == shared[:-1]).any():
            raise OffsetsEntangled
        terms = np.where(known, coefficients * self._constants[classes], 0.0)
        shift, magnitude = terms.sum(axis=0), np.abs(terms).max(axis=0)
        residual, any_free = constants - shift, free.any(axis=0)
        bad = ~any_free & (np.abs(residual) > _ROUNDING * np.maximum(magnitude, np.abs(constants)))
        if bad.any():
            return int(np.argmax(bad))
        self._eliminate(classes[:, any_free], np.where(free, coefficients, 0.0)[:, any_free], residual[any_free])
        return None

    def _eliminate(self, classes: Ids, coefficients: Float64, residual: Float64) -> None:
        """Solve each relation between free classes for its pivot; terms with coefficient 0 are none."""
        size = np.abs(coefficients)
        able = (size >= _SMALL_PIVOT * size.max(axis=0, initial=0.0)) | self._privates[classes]
        cost = np.where(able & (size > 0), self._costs[classes], np.inf)
        # Ties go to the larger coefficient, then to the earlier term.
        pivot = np.where(cost == cost.min(axis=0, initial=np.inf), size, -1.0).argmax(axis=0)
        columns = np.arange(residual.size)
        pivots, k = classes[pivot, columns], coefficients[pivot, columns]
        rows: list[Row] = [_NO_TERMS] * columns.size
        for t in range(len(classes)):
            others = np.flatnonzero((coefficients[t] != 0) & (pivot != t))
            ratios = -coefficients[t, others] / k[others]
            for column, c, ratio in zip(others.tolist(), classes[t, others].tolist(), ratios.tolist(), strict=True):
                if rows[column] is _NO_TERMS:
                    rows[column] = {}
                rows[column][c] = ratio
        solved = residual / k
        self._rows.update(zip(pivots.tolist(), zip(rows, solved.tolist(), strict=True), strict=True))
        self._age.update(zip(pivots.tolist(), range(len(self._undo), len(self._undo) + pivots.size), strict=True))
        self._undo.extend(pivots.tolist())
        self._eliminated[pivots], self._constants[pivots] = True, solved
        self._open[pivots] = (coefficients != 0).sum(axis=0) > 1

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
        for c in self._undo[mark:]:
            del self._rows[c]
        self._eliminated[self._undo[mark:]] = self._open[self._undo[mark:]] = False
        del self._undo[mark:]

    def value(self, c: int) -> float:
        """d_c, with every free class at 0."""
        return self.expand(c)[1] if c in self._rows else 0.0

    def values(self, classes: Ids) -> Float64:
        """d_c of many classes."""
        values = np.where(self._eliminated[classes], self._constants[classes], 0.0)
        for k in np.flatnonzero(self._open[classes]).tolist():
            values[k] = self.value(int(classes[k]))
        return values
