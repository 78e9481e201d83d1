"""Mean and variance of many samples, gathered part by part in float64.

    n = n_a + n_b,  d = mean_b - mean_a,  mean = mean_a + d n_b / n,  M2 = M2_a + M2_b + d^2 n_a n_b / n

Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances" (1979). M2 is the
sum of squared deviations from the mean; no large sums are subtracted from each other, so the order of the parts matters
to rounding only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bnfold.numerics.affine import Float64

__all__ = ["Moments", "merged"]


@dataclass(frozen=True)
class Moments:
    """Per channel: `count` values, their `mean` (C,) and `m2` (C,), the sum of squared deviations from it."""

    count: int
    mean: Float64
    m2: Float64

    @property
    def variance(self) -> Float64:
        """The unbiased estimate, M2 / (n - 1), which is also what PyTorch keeps as running_var.

        Raises:
            ValueError: fewer than two values.
        """
        if self.count < 2:
            raise ValueError("a variance needs two values at least")
        variance: Float64 = self.m2 / (self.count - 1)
        return variance


def merged(a: Moments | None, b: Moments) -> Moments:
    """The moments of both parts together; None is no part."""
    if a is None:
        return b
    count = a.count + b.count
    shift = b.mean - a.mean
    share = b.count / count
    return Moments(count, np.asarray(a.mean + shift * share), a.m2 + b.m2 + shift**2 * (a.count * share))
