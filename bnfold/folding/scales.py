"""Scales that hang together by ratios: a union-find with weights, whose last steps can be taken back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bnfold.folding.units import Ids
from bnfold.numerics.affine import Float64

__all__ = ["PINNED", "ScaleConflict", "Scales"]

# The class whose scale is 1 for good.
PINNED = 0
# A cycle of ratios closes if it does so to float64 rounding: a hundred multiplications of half an ulp each.
_CYCLE = 100 * 2.0**-53


class ScaleConflict(Exception):  # noqa: N818 - an outcome that the caller expects, not an error
    """A relation contradicts what is fixed: by its value or, with `sign`, by its sign; the first of several."""

    def __init__(self, position: int, *, sign: bool) -> None:
        super().__init__()
        self.position = position
        self.sign = sign


class Scales:
    """Classes c with `a_c = ratio * a_parent`; `sign` of a root is the sign that its scale must have, 0 if free."""

    def __init__(self, n_classes: int, positive: set[int]) -> None:
        self._parent = np.arange(n_classes)
        self._ratio = np.ones(n_classes)
        self._sign = np.zeros(n_classes, np.int8)
        self._sign[[PINNED, *positive]] = 1
        self._undo: list[tuple[Ids, Ids, NDArray[np.int8]]] = []

    def find(self, c: Ids) -> tuple[Ids, Float64]:
        """(roots, q) with a_c = q a_root, elementwise."""
        ratio = self._ratio[c]
        root = self._parent[c]
        while (self._parent[root] != root).any():
            ratio = ratio * self._ratio[root]
            root = self._parent[root]
        return root, ratio

    def relate(self, c: Ids, e: Ids, k: Float64) -> None:
        """Demand a_c = k a_e, k != 0, elementwise. The root of e stays the root unless c's is the pinned one.

        Raises:
            ScaleConflict: it cannot hold; some of the relations may have been taken in.
        """
        (root_c, q_c), (root_e, q_e) = self.find(c), self.find(e)
        moving = np.concatenate([root_c[root_c != root_e], root_e[root_c != root_e]])
        moving = moving[moving != PINNED]
        if np.unique(moving).size == moving.size:
            self._relate_apart(root_c, root_e, q_c, k * q_e, start=0)
            return
        for i in range(c.size):  # one relation moves the root of another
            one = slice(i, i + 1)
            (root_c, q_c), (root_e, q_e) = self.find(c[one]), self.find(e[one])
            self._relate_apart(root_c, root_e, q_c, k[one] * q_e, start=i)

    def _relate_apart(self, root_c: Ids, root_e: Ids, left: Float64, right: Float64, *, start: int) -> None:
        """Demand left a_root_c = right a_root_e, of which none moves the roots of another."""
        cycle = root_c == root_e
        open_cycle = cycle & (np.abs(left - right) > _CYCLE * np.maximum(np.abs(left), np.abs(right)))
        ratio = right / left  # a_root_c = ratio * a_root_e
        pinned = root_c == PINNED
        child, root = np.where(pinned, root_e, root_c), np.where(pinned, root_c, root_e)
        ratio = np.where(pinned, 1 / ratio, ratio)
        wanted = (self._sign[child] * np.sign(ratio)).astype(np.int8)
        against = ~cycle & (wanted != 0) & (self._sign[root] == -wanted)
        bad = np.flatnonzero(open_cycle | against)
        if bad.size:
            first = int(bad[0])
            raise ScaleConflict(start + first, sign=bool(against[first] or (left[first] > 0) != (right[first] > 0)))
        child, root, ratio, wanted = child[~cycle], root[~cycle], ratio[~cycle], wanted[~cycle]
        self._undo.append((child, root, self._sign[root]))
        self._parent[child], self._ratio[child] = root, ratio
        self._sign[root] = np.where(self._sign[root] == 0, wanted, self._sign[root])

    def mark(self) -> int:
        """A point to return to."""
        return len(self._undo)

    def rewind(self, mark: int) -> None:
        """Take back every relation since `mark`."""
        while len(self._undo) > mark:
            child, root, sign = self._undo.pop()
            self._parent[child], self._ratio[child], self._sign[root] = child, 1.0, sign

    def values(self) -> Float64:
        """a_c of every class, with every free root at 1, or at -1 where its sign must be negative."""
        root, ratio = self.find(np.arange(self._parent.size))
        return ratio * np.where(self._sign[root] == 0, 1, self._sign[root])
