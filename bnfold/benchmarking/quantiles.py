"""Percentiles of run times, only where the count supports them, each with an interval (SciPy)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bnfold.benchmarking.statistics import LEVEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Quantile", "quantile"]

MIN_BEYOND = 6  # runs beyond a percentile: it then does not hang on one or two of them

Quantile = tuple[float, float, float]
"""The percentile, the low and the high end of its interval."""


def quantile(runs: NDArray[np.float64], p: float) -> Quantile | None:
    """The p-quantile of all runs with a 99 % interval, None where the count does not support it.

    Two intervals are computed, and the wider end of each is given:

    * order statistics, `P(X_(i) <= q_p <= X_(j)) >= 99 %` from the binomial distribution of the runs below `q_p`, free
      of any assumption on the shape (Conover, "Practical nonparametric statistics", section 3.2; SciPy's
      `quantile_test`). It exists only where the count is large enough for p, which is the support asked for. It takes
      runs for independent, which those of one session are not;
    * batch means, `q ± t * s / sqrt(loads)` from the quantile of each load (Law, "Simulation modeling and analysis",
      section 9.5.3), which sees that sessions differ for as long as they live.

    Args:
        runs: times, shape (loads, runs).
        p: 0 to 1.
    """
    from scipy import stats  # takes a second: not in the processes that only load a file

    pooled = runs.ravel()
    if round(pooled.size * min(p, 1 - p), 6) < MIN_BEYOND:
        return None
    point = float(np.quantile(pooled, p))
    low, high = stats.quantile_test(pooled, q=point, p=p).confidence_interval(LEVEL)
    if not np.isfinite([low, high]).all():
        return None
    n_loads = runs.shape[0]
    if n_loads > 1:
        half = stats.t.ppf((1 + LEVEL) / 2, n_loads - 1) * stats.sem(np.quantile(runs, p, axis=1))
        low, high = min(low, point - half), max(high, point + half)
    return point, max(0.0, float(low)), float(high)
