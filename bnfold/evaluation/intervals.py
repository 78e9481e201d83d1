"""How far a metric may lie from what the test samples show: intervals of proportions, of paired differences, of means.

All are two-sided at `CONFIDENCE`, 99 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize, stats

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CONFIDENCE", "Interval", "Paired", "bootstrap", "jackknife", "n_to_decide", "wilson"]

CONFIDENCE = 0.99
N_RESAMPLES = 2000
_MAX_SAMPLES = 10**9


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval."""

    value: float
    low: float
    high: float


def wilson(n_right: int, n: int) -> Interval:
    """The proportion n_right / n, with Wilson's score interval (Wilson 1927, doi:10.2307/2276774).

    Raises:
        ValueError: n is 0, or n_right is not in 0..n.
    """
    interval = stats.binomtest(n_right, n).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(n_right / n, float(interval.low), float(interval.high))


@dataclass(frozen=True)
class Paired:
    """Two files on the same n samples: `gained` counts those that a has right and b wrong, `lost` the reverse."""

    n: int
    gained: int
    lost: int

    def difference(self) -> Interval:
        """The proportion right of a minus that of b, with Tango's score interval.

        The ends are the differences d at which the score statistic of H0: p_gained - p_lost = d reaches the quantile z,

            (gained - lost - n d)^2 = z^2 n (2 q(d) + d (1 - d)),

        q(d) being the estimate of p_lost under H0, the larger root of 2n q^2 - (b + c - (2n - b + c) d) q - c d (1 - d)
        with b = gained and c = lost (Tango 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B).
        It holds its coverage where few samples differ, even none, which Wald's and the bootstrap's do not.
        """
        estimate = (self.gained - self.lost) / self.n
        z = float(stats.norm.ppf(0.5 + CONFIDENCE / 2))

        def excess(difference: float) -> float:
            return abs(self._score(difference)) - z

        low = -1.0 if excess(-1.0) <= 0 else optimize.brentq(excess, -1.0, estimate, xtol=1e-12)
        high = 1.0 if excess(1.0) <= 0 else optimize.brentq(excess, estimate, 1.0, xtol=1e-12)
        return Interval(estimate, float(low), float(high))

    def _score(self, difference: float) -> float:
        n, b, c = self.n, self.gained, self.lost
        linear = b + c - (2 * n - b + c) * difference
        constant = -c * difference * (1 - difference)
        q = (math.sqrt(max(linear**2 - 8 * n * constant, 0.0)) + linear) / (4 * n)
        variance = n * (2 * q + difference * (1 - difference))
        distance = b - c - n * difference
        if variance <= 0:
            return 0.0 if distance == 0 else math.copysign(math.inf, distance)
        return distance / math.sqrt(variance)

    def p_value(self) -> float:
        """McNemar's exact test: how likely so uneven a split of the differing samples is if a and b are equally good.

        1 where no sample differs (McNemar 1947, doi:10.1007/BF02295996).
        """
        differing = self.gained + self.lost
        return float(stats.binomtest(self.gained, differing).pvalue) if differing else 1.0

    def scaled(self, n: int) -> Paired:
        """As it would look on n samples, with the same proportions."""
        return Paired(n, round(self.gained * n / self.n), round(self.lost * n / self.n))


def bootstrap(statistic: Callable[[np.ndarray], float], n: int, *, seed: int = 0) -> Interval:
    """A statistic of n samples, with a percentile interval over samples drawn with replacement (Efron 1979).

    Args:
        statistic: of the numbers of the samples, shape (n,), some of them several times.
        n: samples.
        seed: of the draws.
    """
    numbers = np.arange(n)
    if n < 2:
        value = statistic(numbers)
        return Interval(value, -math.inf, math.inf)
    result = stats.bootstrap(
        (numbers,),
        lambda drawn: statistic(np.asarray(drawn)),
        n_resamples=N_RESAMPLES,
        vectorized=False,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    interval = result.confidence_interval
    return Interval(statistic(numbers), float(interval.low), float(interval.high))


def jackknife(statistic: Callable[[np.ndarray], float], n: int) -> Interval:
    """A smooth statistic of n samples, with the normal interval of its jackknife deviation (Tukey 1958).

    For distances between distributions, which samples drawn with replacement make larger than they are.

    Args:
        statistic: as for `bootstrap`.
        n: samples; with fewer than 2 the interval is everything.
    """
    numbers = np.arange(n)
    value = statistic(numbers)
    if n < 2:
        return Interval(value, -math.inf, math.inf)
    without = np.array([statistic(np.delete(numbers, k)) for k in range(n)])
    deviation = math.sqrt((n - 1) / n * float(np.square(without - without.mean()).sum()))
    width = float(stats.norm.ppf(0.5 + CONFIDENCE / 2)) * deviation
    return Interval(value, value - width, value + width)


def n_to_decide(interval_at: Callable[[int], Interval], limit: float, n: int) -> int | None:
    """The least number of samples, from n on, whose interval leaves out a limit; None where none up to 10^9 does.

    Args:
        interval_at: the interval that so many samples would have if they looked like those at hand.
        limit: to be left out.
        n: samples at hand.
    """
    low, high = n, n

    def decided(size: int) -> bool:
        interval = interval_at(size)
        return not interval.low <= limit <= interval.high

    while not decided(high):
        low, high = high, high * 2
        if high > _MAX_SAMPLES:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decided(middle) else (middle, high)
    return high
