"""From timed rounds to numbers with an interval (NumPy, SciPy).

The rounds of a file pair form a table, one row per *load* (both files opened afresh) and one column per round. Two
sessions of one and the same file differ by a percent or two for as long as they live, because their buffers lie
elsewhere in memory; rounds within a load share that difference. The loads are therefore the sample, and many rounds
are not taken for much evidence (Kalibera and Jones, "Rigorous benchmarking in reasonable time", ISMM 2013).

The level is 99 %, not 95: a verdict is an alarm that somebody acts on, and one in twenty false alarms is too many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bnfold.records import BenchRatio
from bnfold.records.verdicts import decided

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bnfold.records.grid import Place

__all__ = ["LEVEL", "NO_WINNER", "compare", "dispersion", "ratio_interval"]

LEVEL = 0.99
NO_WINNER = "no winner is named: "
N_RESAMPLES = 4000
CHOSEN_AT_ONCE = 1 << 17  # ratios in resamples whose medians are taken together: a megabyte


def ratio_interval(ratios: NDArray[np.float64], seed: int) -> tuple[float, float, float]:
    """The median of paired time ratios with a 99 % interval.

    Two intervals are computed, and the wider end of each is given:

    * the percentile bootstrap, loads resampled first and rounds within them second (Davison and Hinkley, "Bootstrap
      methods and their application", section 3.8). With ten loads it alone misses the truth more often than it says,
      as do the bias-corrected and the studentised bootstrap where loads scatter unevenly;
    * Student's, of the logarithms of the loads' medians, which keeps its level however few they are.

    Args:
        ratios: time(a) / time(b) of each round, shape (loads, rounds per load).
        seed: of the resampling.

    Returns:
        The median, the low and the high end of the interval.
    """
    ends = (_bootstrap(ratios, seed), _student(ratios), (float(np.median(ratios)),) * 2)
    lows, highs = zip(*ends, strict=True)
    return float(np.median(ratios)), min(lows), max(highs)


def _bootstrap(ratios: NDArray[np.float64], seed: int) -> tuple[float, float]:
    generator = np.random.default_rng(seed)
    n_loads, n_rounds = ratios.shape
    medians = np.empty(N_RESAMPLES)
    at_once = max(1, min(N_RESAMPLES, CHOSEN_AT_ONCE // ratios.size))
    chosen = np.empty((at_once, n_loads, n_rounds), np.intp)
    for start in range(0, N_RESAMPLES, at_once):
        part = chosen[: N_RESAMPLES - start]
        for places in part:
            rows = generator.integers(n_loads, size=(n_loads, 1))
            np.add(rows * n_rounds, generator.integers(n_rounds, size=(n_loads, n_rounds)), out=places)
        medians[start : start + at_once] = np.median(ratios.take(part), axis=(1, 2))
    low, high = np.quantile(medians, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _student(ratios: NDArray[np.float64]) -> tuple[float, float]:
    """`exp(mean ± t s / sqrt(n))` of the n loads' log medians; a point for a single load."""
    from scipy import stats  # takes a second: not in the processes that only load a file

    logs = np.log(np.median(ratios, axis=1))
    half = stats.t.ppf((1 + LEVEL) / 2, logs.size - 1) * stats.sem(logs) if logs.size > 1 else 0.0
    return float(np.exp(logs.mean() - half)), float(np.exp(logs.mean() + half))


def compare(
    a: str, b: str, place: Place, ratios: NDArray[np.float64], *, note: str | None = None, seed: int
) -> BenchRatio:
    """The ratio of two files from the time ratio of each round.

    Args:
        a: the name of the first file.
        b: that of the other.
        place: where in the grid they were measured.
        ratios: time(a) / time(b), shape (loads, rounds per load).
        note: why no winner may be named, None where one may.
        seed: of the resampling.
    """
    ratio, low, high = ratio_interval(ratios, seed)
    verdict, leaning = decided(low, high, may_name=note is None)
    return BenchRatio(
        a=a, b=b, ratio=ratio, low=low, high=high, verdict=verdict, leaning=leaning,
        note=None if leaning is None else f"{NO_WINNER}{note}", **place.fields(),
    )  # fmt: skip


def dispersion(times: NDArray[np.float64]) -> float:
    """The robust coefficient of variation: 1.4826 * median absolute deviation / median.

    The factor makes it the standard deviation over the mean for normal noise (Rousseeuw and Croux, "Alternatives to
    the median absolute deviation", JASA 1993).
    """
    median = np.median(times)
    return float(1.4826 * np.median(np.abs(times - median)) / median)
