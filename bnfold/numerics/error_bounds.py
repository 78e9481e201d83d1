"""How large rounding errors are: unit roundoffs, what accumulation leaves, and pooled errors (NumPy only)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["PooledError", "accumulation_error", "expected_maximum", "unit_roundoff"]

# 2^-(p) for p bits of significand, the hidden one included (IEEE 754-2019; bfloat16 has 8).
_UNIT_ROUNDOFF = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float32": 2.0**-24, "float64": 2.0**-53}


def unit_roundoff(dtype: str) -> float:
    """The largest relative error of one rounding to a floating-point format, by its NumPy name.

    Raises:
        ValueError: not a floating-point format.
    """
    if dtype not in _UNIT_ROUNDOFF:
        raise ValueError(f"{dtype} is no floating-point format")
    return _UNIT_ROUNDOFF[dtype]


def accumulation_error(length: int, u: float) -> float:
    """The relative error that adding up `length` products leaves, in the best order there is.

        u sqrt( (1 + ceil(log2 K)) / 3 )

    Each product is rounded, and each partial sum on the way of a term to the root of a summation tree, which is at
    least log2 K long (pairwise summation). Roundings are taken as independent with mean zero and uniform on [-u, u],
    so of variance u^2 / 3, and for terms of mean zero every level of the tree adds the same variance relative to the
    result. This is the setting of Higham and Mary, "Sharper probabilistic backward error analysis for basic linear
    algebra kernels with random data", SIAM J. Sci. Comput. 42(5), 2020; other orders of summation, and further
    operators, leave more.
    """
    return u * math.sqrt((1 + math.ceil(math.log2(max(length, 1)))) / 3)


def expected_maximum(n: int) -> float:
    """The largest of n independent standard normal errors, sqrt(2 ln n), at least 1: maximum over root mean square."""
    return max(math.sqrt(2 * math.log(n)), 1.0) if n > 1 else 1.0


@dataclass
class PooledError:
    """Errors of many values: how many, their root mean square and their largest magnitude."""

    n: int = 0
    sum_of_squares: float = 0.0
    maximum: float = 0.0

    def add(self, error: np.ndarray) -> None:
        """Take in an array of errors of any shape."""
        if error.size:
            flat = np.asarray(error, dtype=np.float64).ravel()
            self.n += flat.size
            self.sum_of_squares += float(flat @ flat)
            self.maximum = max(self.maximum, float(np.abs(flat).max()))

    @property
    def rms(self) -> float:
        """Root mean square, 0 of nothing."""
        return math.sqrt(self.sum_of_squares / self.n) if self.n else 0.0
