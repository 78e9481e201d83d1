"""Affine algebra of normalisation layers, in float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Float64", "batchnorm_affine"]

Float64 = NDArray[np.float64]


def batchnorm_affine(
    gamma: Float64, beta: Float64, mean: Float64, variance: Float64, epsilon: float
) -> tuple[Float64, Float64]:
    """The scale and shift of a BatchNorm in eval mode: `y = s x + t`.

        s = gamma / sqrt(variance + epsilon),    t = beta - s mean

    All arguments have shape (C,), as do `s` and `t`. Source: Ioffe and Szegedy 2015 (arXiv:1502.03167), algorithm 2;
    ONNX operator BatchNormalization.

    Raises:
        ValueError: `variance + epsilon` is not positive, or a parameter is not finite.
    """
    spread = variance + epsilon
    if not np.all(np.isfinite(np.stack([gamma, beta, mean, spread]))):
        raise ValueError("a BatchNorm parameter is not finite")
    if np.any(spread <= 0):
        raise ValueError(f"variance + epsilon is not positive: {spread.min()}")
    scale = gamma / np.sqrt(spread)
    return scale, beta - scale * mean
