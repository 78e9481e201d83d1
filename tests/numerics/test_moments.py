"""Moments merged part by part are those of the whole, in any order and division."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnfold.numerics.moments import Moments, merged


def _moments(values: np.ndarray) -> Moments:
    mean = values.mean(0)
    return Moments(len(values), mean, ((values - mean) ** 2).sum(0))


@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(1, 99), unique=True), offset=st.sampled_from([0, 1e6]))
def test_parts_in_any_order_make_the_whole(seed: int, cuts: list[int], offset: float) -> None:
    random = np.random.default_rng(seed)
    values = random.normal(offset, 1, size=(100, 3))
    parts = np.split(random.permutation(values), sorted(cuts))
    whole = reduce(merged, map(_moments, parts), None)
    assert whole.count == 100
    # Up to 100 merges of three roundings each, and those of the mean it is compared with.
    np.testing.assert_allclose(whole.mean, values.mean(0), rtol=0, atol=400 * 2.0**-53 * np.abs(values).max())
    # One rounding of a mean of 1e6 is 1e-10, with any formula, and there are up to 100 merges; without an offset a
    # rounding is 1e-16, and the deviations of a part are sums of up to 100 squares.
    np.testing.assert_allclose(whole.variance, values.var(0, ddof=1), rtol=1e-12 * max(1, offset / 100))


def test_one_value_has_no_variance() -> None:
    with pytest.raises(ValueError, match="two values"):
        _ = _moments(np.ones((1, 2))).variance
