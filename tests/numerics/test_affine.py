"""The affine form of a BatchNorm."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnfold.numerics.affine import batchnorm_affine


@settings(max_examples=50, derandomize=True)
@given(st.integers(0, 2**16), st.integers(1, 8))
def test_dyadic_parameters_give_the_batchnorm_exactly(seed, size):
    rng = np.random.default_rng(seed)
    epsilon = 2.0**-10
    gamma, beta, mean = (rng.integers(-8, 9, size) / 4.0 for _ in range(3))
    variance = 4.0 ** rng.integers(-2, 3, size) - epsilon
    scale, shift = batchnorm_affine(gamma, beta, mean, variance, epsilon)
    x = rng.integers(-8, 9, (5, size)) / 2.0
    np.testing.assert_array_equal(x * scale + shift, (x - mean) / np.sqrt(variance + epsilon) * gamma + beta)


@pytest.mark.parametrize(
    ("name", "value"),
    [("gamma", np.nan), ("beta", np.inf), ("mean", -np.inf), ("variance", np.nan), ("variance", -1.0)],
)
def test_what_is_no_batchnorm_is_refused(name, value):
    arrays = {"gamma": np.ones(3), "beta": np.ones(3), "mean": np.ones(3), "variance": np.ones(3)}
    arrays[name][1] = value
    with pytest.raises(ValueError, match=r"finite|positive"):
        batchnorm_affine(**arrays, epsilon=1e-5)


def test_variance_of_zero_lives_from_epsilon():
    one = np.ones(1)
    scale, _ = batchnorm_affine(one, one, one, np.zeros(1), 0.25)
    assert scale[0] == 2.0
