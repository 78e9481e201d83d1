"""The parameters of the file with the float64 digits that their fold had: stored plus a difference.

A difference may be what rounding once leaves, half a unit in the last place of what is stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bnfold.records.certificate import Exact

__all__ = ["MAX_ULPS", "Parameters", "ulps"]

MAX_ULPS = 0.5
_BLOCK = 1 << 17  # elements that are compared at a time


class Parameters:
    """Parameters of one graph of the file, each with the digits that were rounded off.

    Args:
        exact: the digits, by name of the initializer.
        present: the names of the file's initializers.
        unchanged: what the source stores by the same name; a parameter that was not computed is that one.
        allowed: units in the last place by which digits may differ from what is stored.
    """

    def __init__(
        self,
        exact: Mapping[str, Exact],
        present: frozenset[str],
        unchanged: Callable[[str], np.ndarray | None],
        allowed: float = MAX_ULPS,
    ) -> None:
        self._exact, self._unchanged, self._allowed = exact, unchanged, allowed
        self._gone = tuple(name for name in exact if name not in present)
        self.max_ulps = 0.0
        self.worst = ""

    def digits(self, name: str, stored: np.ndarray) -> np.ndarray | None:
        """The parameter in float64; None where it is another one by that name, or lies too far from its digits."""
        exact = self._exact[name](stored) if name in self._exact else self._unchanged(name)
        if exact is None or exact.size != stored.size:
            return None
        exact = exact.reshape(stored.shape).astype(np.float64, copy=False)
        found = ulps(exact, stored)
        if not found <= self.max_ulps:
            self.max_ulps, self.worst = found, name
        return exact if found <= self._allowed else None

    def alternatives(self, stored: np.ndarray) -> list[np.ndarray]:
        """Digits of parameters that the file lacks and that are stored as this one is: of equal ones, one is kept."""
        found = []
        for name in self._gone:
            exact = self._exact[name](stored)
            if exact.size == stored.size and np.array_equal(exact.ravel().astype(stored.dtype), stored.ravel()):
                found.append(exact.reshape(stored.shape))
        return found


def ulps(exact: np.ndarray, stored: np.ndarray) -> float:
    """The largest difference of digits in float64, in units in the last place of what is stored."""
    flat, found, worst = exact.ravel(), stored.ravel(), 0.0
    for start in range(0, flat.size, _BLOCK):
        part, digits = found[start : start + _BLOCK], flat[start : start + _BLOCK]
        wide = part.astype(np.float64)
        same = (digits == wide) | (np.isnan(digits) & np.isnan(wide))  # of infinities, too, which have no spacing
        with np.errstate(invalid="ignore", over="ignore"):
            own = float(np.max(np.where(same, 0.0, np.abs(digits - wide) / _spacing(part))))
        worst = max(worst, np.inf if np.isnan(own) else own)
    return worst


def _spacing(stored: np.ndarray) -> np.ndarray:
    """One unit in the last place."""
    if stored.dtype.kind == "f":
        spacing: np.ndarray = np.spacing(np.abs(stored)).astype(np.float64)
        return spacing
    wide = np.abs(stored.astype(np.float64))  # bfloat16: 8 digits
    found: np.ndarray = np.ldexp(1.0, np.maximum(np.frexp(wide)[1] - 8, -133))
    return found
