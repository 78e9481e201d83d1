"""Scales that hang together by ratios: a union-find with weights, whose last steps can be taken back."""

from __future__ import annotations

import math

__all__ = ["PINNED", "ScaleConflict", "Scales"]

# The class whose scale is 1 for good.
PINNED = 0
# A cycle of ratios closes if it does so to float64 rounding: a hundred multiplications of half an ulp each.
_CYCLE = 100 * 2.0**-53


class ScaleConflict(Exception):  # noqa: N818 - an outcome that the caller expects, not an error
    """A relation contradicts what is fixed: by its value or, with `sign`, by its sign."""

    def __init__(self, *, sign: bool) -> None:
        super().__init__()
        self.sign = sign


class Scales:
    """Classes c with `a_c = ratio * a_parent`; `signs[root]` is the sign that the root's scale must have, 0 if free."""

    def __init__(self, n_classes: int, positive: set[int]) -> None:
        self._parent = list(range(n_classes))
        self._ratio = [1.0] * n_classes
        self._sign = [1 if c == PINNED or c in positive else 0 for c in range(n_classes)]
        self._undo: list[tuple[int, int, int]] = []

    def find(self, c: int) -> tuple[int, float]:
        """(root, q) with a_c = q a_root."""
        ratio = 1.0
        while self._parent[c] != c:
            ratio *= self._ratio[c]
            c = self._parent[c]
        return c, ratio

    def relate(self, c: int, e: int, k: float) -> None:
        """Demand a_c = k a_e, k != 0. The root of e stays the root unless c's is the pinned one.

        Raises:
            ScaleConflict: it cannot hold.
        """
        (root_c, q_c), (root_e, q_e) = self.find(c), self.find(e)
        if root_c == root_e:
            if math.isclose(q_c, k * q_e, rel_tol=_CYCLE):
                return
            raise ScaleConflict(sign=(q_c > 0) != (k * q_e > 0))
        ratio = k * q_e / q_c  # a_root_c = ratio * a_root_e
        if root_c == PINNED:
            root_c, root_e, ratio = root_e, root_c, 1 / ratio
        wanted = self._sign[root_c] * (1 if ratio > 0 else -1)
        if wanted and self._sign[root_e] not in (0, wanted):
            raise ScaleConflict(sign=True)
        self._undo.append((root_c, root_e, self._sign[root_e]))
        self._parent[root_c], self._ratio[root_c] = root_e, ratio
        self._sign[root_e] = self._sign[root_e] or wanted

    def mark(self) -> int:
        """A point to return to."""
        return len(self._undo)

    def rewind(self, mark: int) -> None:
        """Take back every relation since `mark`."""
        while len(self._undo) > mark:
            child, root, sign = self._undo.pop()
            self._parent[child], self._ratio[child], self._sign[root] = child, 1.0, sign

    def value(self, c: int) -> float:
        """a_c, with every free root at 1, or at -1 where its sign must be negative."""
        root, ratio = self.find(c)
        return ratio * (self._sign[root] or 1)
