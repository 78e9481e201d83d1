"""Intervals hold the truth as often as they say, paired ones too, and small test sets are undecided."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from bnfold.evaluation.gates import drop_gate, least_gate
from bnfold.evaluation.intervals import Interval, Paired, bootstrap, jackknife, n_to_decide, wilson
from bnfold.evaluation.scores import Difference

N_DRAWS = 2000


def _coverage(draws: list[object], interval: dict[object, Interval], truth: float) -> float:
    return sum(interval[draw].low <= truth <= interval[draw].high for draw in draws) / len(draws)


@pytest.mark.parametrize(("n", "p"), [(10_000, 0.91), (10_000, 0.99), (300, 0.9)])
def test_wilson_holds_the_truth_in_99_of_100(n: int, p: float) -> None:
    draws = np.random.default_rng(1).binomial(n, p, N_DRAWS).tolist()
    assert 0.985 <= _coverage(draws, {k: wilson(k, n) for k in set(draws)}, p) <= 0.995


@pytest.mark.parametrize(("n", "gained", "lost"), [(10_000, 0.004, 0.010), (1000, 0.01, 0.02), (300, 0.05, 0.02)])
def test_the_paired_interval_holds_the_truth_in_99_of_100(n: int, gained: float, lost: float) -> None:
    counts = np.random.default_rng(2).multinomial(n, [gained, lost, 1 - gained - lost], N_DRAWS)
    draws = [(int(b), int(c)) for b, c, _ in counts]
    intervals: dict[object, Interval] = {pair: Paired(n, *pair).difference() for pair in set(draws)}
    assert 0.985 <= _coverage(list(draws), intervals, gained - lost) <= 0.995


def test_the_paired_interval_solves_its_equation() -> None:
    z = stats.norm.ppf(0.995)
    pair = Paired(44, 1, 0)
    for end in (pair.difference().low, pair.difference().high):
        assert abs(pair._score(end)) == pytest.approx(z, rel=1e-6)


def test_no_difference_is_no_certainty() -> None:
    own = Paired(100, 0, 0).difference()
    z2 = stats.norm.ppf(0.995) ** 2
    assert (own.value, own.high) == (0.0, pytest.approx(z2 / (100 + z2)))
    assert own.low == pytest.approx(-own.high)


@pytest.mark.parametrize(("pair", "ends"), [(Paired(20, 0, 20), (-1.0, None)), (Paired(20, 20, 0), (None, 1.0))])
def test_all_samples_differ(pair: Paired, ends: tuple[float | None, float | None]) -> None:
    own = pair.difference()
    for found, expected in zip((own.low, own.high), ends, strict=True):
        assert expected is None or found == expected
    assert own.low <= own.value <= own.high


def test_mcnemar() -> None:
    assert Paired(100, 0, 0).p_value() == 1.0
    assert Paired(100, 0, 10).p_value() == pytest.approx(2 / 2**10)


def test_the_bootstrap_of_a_mean_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(3).normal(size=400)
    own = bootstrap(lambda drawn: float(values[drawn].mean()), 400)
    width = stats.norm.ppf(0.995) * values.std() / math.sqrt(400)
    assert (own.low, own.high) == pytest.approx((own.value - width, own.value + width), abs=0.15 * width)


def test_the_jackknife_of_a_mean_is_exact() -> None:
    values = np.random.default_rng(4).normal(size=50)
    own = jackknife(lambda drawn: float(values[drawn].mean()), 50)
    width = stats.norm.ppf(0.995) * values.std(ddof=1) / math.sqrt(50)
    assert (own.value - own.low, own.high - own.value) == pytest.approx((width, width))


def test_one_sample_says_nothing() -> None:
    for make in (bootstrap, jackknife):
        assert make(lambda drawn: float(drawn.size), 1) == Interval(1.0, -math.inf, math.inf)


@pytest.mark.parametrize(
    ("pair", "verdict"),
    [
        (Paired(10_000, 0, 100), "failed"),
        (Paired(10_000, 0, 0), "passed"),
        (Paired(100, 0, 0), "undecided"),
        (Paired(10_000, 200, 0), "passed"),
    ],
)
def test_a_drop_of_half_a_point(pair: Paired, verdict: str) -> None:
    gate = drop_gate("x", 0.005, Difference(pair.difference(), paired=pair), pair.n, maximise=True)
    assert gate.verdict == verdict
    assert (gate.n_to_decide is not None) == (verdict == "undecided")


def test_as_many_samples_as_asked_for_decide() -> None:
    pair = Paired(100, 0, 0)
    gate = drop_gate("x", 0.005, Difference(pair.difference(), paired=pair), 100, maximise=True)
    assert gate.n_to_decide is not None
    for n, verdict in ((gate.n_to_decide, "passed"), (gate.n_to_decide - 1, "undecided")):
        own = pair.scaled(n)
        assert drop_gate("x", 0.005, Difference(own.difference(), paired=own), n, maximise=True).verdict == verdict


def test_what_lies_on_the_limit_is_never_decided() -> None:
    assert n_to_decide(lambda n: wilson(n // 2, n), 0.5, 100) is None


@pytest.mark.parametrize(("limit", "verdict"), [(0.80, "passed"), (0.90, "undecided"), (0.95, "failed")])
def test_a_least_accuracy(limit: float, verdict: str) -> None:
    gate = least_gate("x", limit, wilson(895, 1000), 1000, is_proportion=True, maximise=True)
    assert gate.verdict == verdict


@pytest.mark.parametrize(("limit", "verdict"), [(0.5, "failed"), (0.9, "undecided"), (2.0, "passed")])
def test_a_largest_distance(limit: float, verdict: str) -> None:
    gate = least_gate("x", limit, Interval(1.0, 0.8, 1.2), 100, is_proportion=False, maximise=False)
    assert gate.verdict == verdict
