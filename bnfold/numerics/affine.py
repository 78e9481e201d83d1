"""Affine algebra of normalisation layers, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["BatchNormParameters", "Float64", "batchnorm_affine"]

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class BatchNormParameters:
    """What a BatchNorm in eval mode computes with; all but epsilon have shape (C,)."""

    gamma: Float64
    beta: Float64
    mean: Float64
    variance: Float64
    epsilon: float

    def affine(self) -> tuple[Float64, Float64]:
        """Its scale and shift, each (C,), see `batchnorm_affine`.

        Raises:
            ValueError: `variance + epsilon` is not positive, or a parameter is not finite.
        """
        return batchnorm_affine(self.gamma, self.beta, self.mean, self.variance, self.epsilon)

    def deviation(self) -> Float64:
        """sqrt(variance + epsilon), shape (C,): how far x goes from its mean."""
        deviation: Float64 = np.sqrt(self.variance + self.epsilon)
        return deviation


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
