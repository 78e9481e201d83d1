"""The interval covers the truth as often as it says, also where sessions differ for as long as they live."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bnfold.benchmarking import statistics
from bnfold.benchmarking.schedule import N_LOADS
from bnfold.benchmarking.statistics import LEVEL, compare, dispersion, ratio_interval
from bnfold.records.grid import Place

N_TRIALS = 300


@pytest.fixture(autouse=True)
def fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The coverage does not depend on the number of resamples, the time of the tests does."""
    monkeypatch.setattr(statistics, "N_RESAMPLES", 200)


def count_covered(truth: float, load_scatter: float, round_scatter: float, seed: int) -> int:
    """How many of `N_TRIALS` synthetic measurements have an interval that holds the truth."""
    generator = np.random.default_rng(seed)
    covered = 0
    for trial in range(N_TRIALS):
        loads = generator.normal(0, load_scatter, (N_LOADS, 1))
        ratios = truth * np.exp(loads + generator.normal(0, round_scatter, (N_LOADS, 8)))
        _, low, high = ratio_interval(ratios, trial)
        covered += low <= truth <= high
    return covered


@pytest.mark.parametrize(
    ("truth", "load_scatter", "round_scatter"), [(1.0, 0.0, 0.02), (1.0, 0.01, 0.02), (0.8, 0.01, 0.03)]
)
def test_the_interval_covers_the_truth(truth: float, load_scatter: float, round_scatter: float) -> None:
    covered = count_covered(truth, load_scatter, round_scatter, seed=5)
    # An interval with at least the coverage it claims falls below this count once in a thousand such tests.
    assert covered >= stats.binom.ppf(0.001, N_TRIALS, LEVEL)


def test_rounds_of_one_load_are_no_independent_evidence() -> None:
    """Loads that differ by 2 % and rounds that repeat them exactly: many rounds must not shrink the interval."""
    loads = np.exp(np.random.default_rng(0).normal(0, 0.02, (N_LOADS, 1)))
    few = ratio_interval(np.tile(loads, (1, 2)), 0)
    many = ratio_interval(np.tile(loads, (1, 200)), 0)
    assert many[2] - many[1] >= (few[2] - few[1]) / 2


@pytest.mark.parametrize("n_loads", [6, 10])
def test_few_loads_do_not_make_false_alarms(n_loads: int) -> None:
    """Equal files whose loads scatter with heavy tails: winners are named as rarely as the level says."""
    generator = np.random.default_rng(2)
    named = 0
    for trial in range(N_TRIALS):
        logs = 0.006 * generator.standard_t(3, (n_loads, 1)) + 0.01 * generator.standard_t(3, (n_loads, 8))
        named += compare(*PAIR, np.exp(logs), seed=trial).verdict != "tie"
    assert named <= stats.binom.ppf(0.999, N_TRIALS, 1 - LEVEL)


def test_a_single_load_has_an_interval() -> None:
    ratio, low, high = ratio_interval(np.array([[1.0, 1.1, 0.9]]), 0)
    assert low <= ratio <= high


PAIR = ("new", "old", Place("CPUExecutionProvider", 8))


@pytest.mark.parametrize(("factor", "verdict"), [(0.5, "faster"), (2.0, "slower")])
def test_verdicts_of_clear_differences(factor: float, verdict: str) -> None:
    ratios = factor * np.exp(np.random.default_rng(0).normal(0, 0.02, (N_LOADS, 8)))
    found = compare(*PAIR, ratios, seed=0)
    assert (found.a, found.b, found.batch, found.verdict, found.note) == ("new", "old", 8, verdict, None)
    assert found.leaning is None
    assert found.low <= found.ratio <= found.high
    refused = compare(*PAIR, ratios, note="noisy machine", seed=0)
    assert (refused.verdict, refused.leaning) == ("undecided", verdict)
    assert refused.note == "no winner is named: noisy machine"
    assert (refused.ratio, refused.low, refused.high) == (found.ratio, found.low, found.high)


def test_equal_times_tie() -> None:
    found = compare(*PAIR, np.ones((N_LOADS, 4)), note="noisy machine", seed=0)
    assert (found.ratio, found.low, found.high, found.verdict, found.note) == (1.0, 1.0, 1.0, "tie", None)


def test_the_seed_decides_the_interval() -> None:
    ratios = np.exp(np.random.default_rng(0).normal(0, 0.1, (N_LOADS, 4)))
    assert ratio_interval(ratios, 1) == ratio_interval(ratios, 1)
    assert ratio_interval(ratios, 1) != ratio_interval(ratios, 2)


def test_dispersion_is_the_coefficient_of_variation_of_normal_noise_and_ignores_outliers() -> None:
    times = stats.norm.ppf((np.arange(10_000) + 0.5) / 10_000, loc=20.0, scale=1.0)
    assert round(dispersion(times), 3) == 0.05
    times[:10] = 1e6
    assert round(dispersion(times), 3) == 0.05
