"""Gates on metrics: they decide on the interval, and say how many samples would decide where it holds the limit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bnfold.evaluation.intervals import Interval, n_to_decide, wilson
from bnfold.records import MetricGate

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnfold.evaluation.scores import Difference

__all__ = ["drop_gate", "least_gate"]


def least_gate(
    name: str, limit: float, interval: Interval, n: int, *, is_proportion: bool, maximise: bool
) -> MetricGate:
    """A metric must be at least the limit, or at most where smaller is better.

    Args:
        name: of the gate.
        limit: of the metric.
        interval: of the metric on
        n: samples.
        is_proportion: of right samples: else the interval is taken to shrink with the root of n.
        maximise: whether larger is better.
    """

    def at(size: int) -> Interval:
        return wilson(round(interval.value * size), size) if is_proportion else _shrunk(interval, n, size)

    return _gate(name, limit, interval, at, n, maximise=maximise)


def drop_gate(name: str, allowed: float, difference: Difference, n: int, *, maximise: bool) -> MetricGate:
    """The first file may be worse than the other by so much at most.

    Args:
        name: of the gate.
        allowed: 0.005 allows half a point.
        difference: of the metric, first minus other.
        n: samples.
        maximise: whether larger is better.
    """
    limit = -allowed if maximise else allowed
    paired, interval = difference.paired, difference.interval

    def at(size: int) -> Interval:
        return paired.scaled(size).difference() if paired is not None else _shrunk(interval, n, size)

    return _gate(name, limit, interval, at, n, maximise=maximise)


def _shrunk(interval: Interval, n: int, size: int) -> Interval:
    root = math.sqrt(n / size)
    low, high = (interval.value + (end - interval.value) * root for end in (interval.low, interval.high))
    return Interval(interval.value, low, high)


def _gate(
    name: str, limit: float, interval: Interval, at: Callable[[int], Interval], n: int, *, maximise: bool
) -> MetricGate:
    worst, best = (interval.low, interval.high) if maximise else (-interval.high, -interval.low)
    bound = limit if maximise else -limit
    if best < bound:
        return MetricGate(name, limit, interval.value, interval.low, interval.high, "failed")
    if worst >= bound:
        return MetricGate(name, limit, interval.value, interval.low, interval.high, "passed")
    needed = n_to_decide(at, limit, n)
    return MetricGate(name, limit, interval.value, interval.low, interval.high, "undecided", needed)
