"""A percentile is given where the count supports it, with an interval that covers the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bnfold.benchmarking.quantiles import LEVEL, quantile

N_TRIALS = 300


@pytest.mark.parametrize(("p", "least"), [(0.5, 12), (0.9, 60), (0.95, 120), (0.99, 600)])
def test_the_count_that_supports_a_percentile(p: float, least: int) -> None:
    assert quantile(np.arange(float(least - 1))[None], p) is None
    point, low, high = quantile(np.arange(float(least))[None], p) or (0.0, 0.0, 0.0)
    assert point == np.quantile(np.arange(float(least)), p)
    assert 0 <= low < point < high <= least - 1


@pytest.mark.parametrize("p", [0.5, 0.95])
@pytest.mark.parametrize("load_scatter", [0.0, 0.02])
def test_the_interval_covers_the_truth(p: float, load_scatter: float) -> None:
    """Also where sessions differ for as long as they live: the truth is then the quantile over all sessions."""
    generator = np.random.default_rng(3)
    spread = 0.01
    truth = stats.norm.ppf(p, loc=1.0, scale=np.hypot(spread, load_scatter))
    covered = 0
    for _ in range(N_TRIALS):
        runs = generator.normal(1.0 + generator.normal(0, load_scatter, (10, 1)), spread, (10, 60))
        _, low, high = quantile(runs, p) or (0.0, 0.0, 0.0)
        covered += low <= truth <= high
    if p == 0.5 or load_scatter == 0.0:
        assert covered >= stats.binom.ppf(0.001, N_TRIALS, LEVEL)
    else:
        # Ten sessions say little about the tail between sessions; the interval still covers far more than the one
        # that takes runs for independent.
        naive = 0
        generator = np.random.default_rng(3)
        for _ in range(N_TRIALS):
            runs = generator.normal(1.0 + generator.normal(0, load_scatter, (10, 1)), spread, (10, 60))
            interval = stats.quantile_test(runs.ravel(), p=p).confidence_interval(LEVEL)
            naive += interval.low <= truth <= interval.high
        assert covered > 2 * naive
