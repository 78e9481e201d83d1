"""From timed rounds to numbers with an interval (NumPy only).

The rounds of a file pair form a table, one row per *load* (both files opened afresh) and one column per round. Two
sessions of one and the same file differ by a percent or two for as long as they live, because their buffers lie
elsewhere in memory; rounds within a load share that difference. The interval therefore resamples loads first and
rounds within them second (Kalibera and Jones, "Rigorous benchmarking in reasonable time", ISMM 2013; Davison and
Hinkley, "Bootstrap methods and their application", section 3.8), and does not take many rounds for much evidence.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from bnfold.records import BenchRatio, RatioVerdict

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["compare", "dispersion", "ratio_interval"]

LEVEL = 0.95
N_RESAMPLES = 4000


def ratio_interval(ratios: NDArray[np.float64], seed: int) -> tuple[float, float, float]:
    """The median of paired time ratios with its 95 % percentile bootstrap interval.

    Args:
        ratios: time(a) / time(b) of each round, shape (loads, rounds per load).
        seed: of the resampling.

    Returns:
        The median, the low and the high end of the interval.
    """
    generator = np.random.default_rng(seed)
    n_loads, n_rounds = ratios.shape
    medians = np.empty(N_RESAMPLES)
    for index in range(N_RESAMPLES):
        rows = ratios[generator.integers(n_loads, size=n_loads)]
        columns = generator.integers(n_rounds, size=(n_loads, n_rounds))
        medians[index] = np.median(np.take_along_axis(rows, columns, axis=1))
    low, high = np.quantile(medians, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(np.median(ratios)), float(low), float(high)


def compare(pair: BenchRatio, ratios: NDArray[np.float64], *, note: str | None = None, seed: int) -> BenchRatio:
    """The ratio of two files from the time ratio of each round.

    Args:
        pair: which files, in which cell of the grid.
        ratios: shape (loads, rounds per load).
        note: why no winner may be named, None where one may.
        seed: of the resampling.
    """
    ratio, low, high = ratio_interval(ratios, seed)
    verdict: RatioVerdict = "faster" if high < 1 else "slower" if low > 1 else "tie"
    if note is None or verdict == "tie":
        return dataclasses.replace(pair, ratio=ratio, low=low, high=high, verdict=verdict)
    return dataclasses.replace(pair, ratio=ratio, low=low, high=high, verdict="tie", note=f"no winner is named: {note}")


def dispersion(times: NDArray[np.float64]) -> float:
    """The robust coefficient of variation: 1.4826 * median absolute deviation / median.

    The factor makes it the standard deviation over the mean for normal noise (Rousseeuw and Croux, "Alternatives to
    the median absolute deviation", JASA 1993).
    """
    median = np.median(times)
    return float(1.4826 * np.median(np.abs(times - median)) / median)
