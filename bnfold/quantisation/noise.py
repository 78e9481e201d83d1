"""The noise that quantisation makes at the outputs, as a function of the units of the channels, and its minimum.

    J(a) = sum_v Delta_v^2 / 12  sum_c S_vc / a_c^2
         + sum_m (max_c |W_mc| / a_c)^2 / (12 n^2)  sum_c a_c^2 P_c  S_m

with Delta_v = (max_c a_c high_vc + max_c a_c |low_vc|) / 255 the step of a tensor, S the squared sensitivity of the
outputs to it, P_c the mean square of the channel that a weight is multiplied with, n the largest integer of a weight. A
row m of a weight has a step of its own, in which its output's units cancel; a weight with one step for all rows has
max_mc a_m |W_mc| / a_c in place of the maximum, and S_m / a_m^2. All of this is a sum of products of powers of a, and
of maxima of them: convex in u = log a (a geometric program, Boyd et al. 2007). Maxima are smooth here,
(sum z^beta)^(1/beta), and L-BFGS finds the minimum.
"""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ActivationNoise", "WeightNoise", "least_noise", "noise"]

Array = np.ndarray
BETA = 40.0  # log(1000) / 40 = 0.17: a maximum of a thousand equal numbers comes out 19 % too large, of few right
STEPS = 255.0
MOST_ITERATIONS = 600
_LOWEST = -1e3  # the logarithm of 0, of which exp is 0


@dataclasses.dataclass(frozen=True)
class ActivationNoise:
    """A tensor with one step: its channels' classes, largest magnitudes below and above 0, and sensitivities.

    All arrays have the shape (C,); class 0 keeps its units. `sensitivity` is summed over the elements of a channel.
    """

    classes: Array
    low: Array
    high: Array
    sensitivity: Array

    def add(self, u: Array, gradient: Array) -> float:
        """The tensor's noise; its gradient is added to `gradient`."""
        own = u[self.classes]
        high, p_high = _largest(own + _log(self.high))
        low, p_low = _largest(own + _log(self.low))
        step = (high + low) / STEPS
        shares = self.sensitivity * np.exp(-2 * own)
        total = float(shares.sum())
        noise = step**2 / 12 * total
        slope = step / 6 * total * (high * p_high + low * p_low) / STEPS - step**2 / 6 * shares
        _add(gradient, self.classes, slope)
        return float(noise)


@dataclasses.dataclass(frozen=True)
class WeightNoise:
    """A weight of G groups, each of M rows that read the same C channels.

    `inputs` (G, C) and `outputs` (G, M) are classes, `largest` (G, M, C) magnitudes over the taps, `power` (G, C) mean
    squares of the channels that are read, times taps, `sensitivity` (G, M) that of the outputs, summed over the
    elements of a channel.

    With z = log(largest) = column_c + row_m + log(share_mc) a smooth maximum of exp(z - u_c) is

        exp(row_m + top) (sum_c share_mc^beta e_c)^(1/beta)        e_c = exp(beta (column_c - u_c - top)) <= 1

    so that a step of the search multiplies with a matrix that stays, and takes no exponential of it.
    """

    inputs: Array
    outputs: Array
    largest: Array
    power: Array
    sensitivity: Array
    limit: int
    per_tensor: bool

    def add(self, u: Array, gradient: Array) -> float:
        """The weight's noise; its gradient is added to `gradient`."""
        columns, rows, shares = self._factors
        read = u[self.inputs]
        reach = columns - read
        top = reach.max(axis=1, keepdims=True)
        e = np.exp(BETA * (reach - top))
        powers = self.power * np.exp(2 * read)
        power = powers.sum(axis=1, keepdims=True)
        totals = np.einsum("gmc,gc->gm", shares, e)
        scale = 1 / (12 * self.limit**2)
        if self.per_tensor:
            written = u[self.outputs]
            z = rows + top + written
            f = np.exp(BETA * (z - z.max()))
            total = float((f * totals).sum())
            squared = math.exp(2 * z.max()) * total ** (2 / BETA) * scale * self.sensitivity * np.exp(-2 * written)
            weights = f / total if total > 0 else np.zeros_like(f)
            each = squared * power
            noise = float(each.sum())
            _add(gradient, self.outputs, 2 * noise * weights * totals - 2 * each)
            weights = noise * weights
        else:
            squared = np.exp(2 * (rows + top)) * totals ** (2 / BETA) * scale * self.sensitivity
            each = squared * power
            noise = float(each.sum())
            weights = np.divide(each, totals, out=np.zeros_like(each), where=totals > 0)
        slope = 2 * squared.sum(axis=1, keepdims=True) * powers - 2 * e * np.einsum("gmc,gm->gc", shares, weights)
        _add(gradient, self.inputs, slope)
        return noise

    @cached_property
    def _factors(self) -> tuple[Array, Array, Array]:
        """The logarithms of columns (G, C) and rows (G, M), and shares^beta (G, M, C), at most 1."""
        z = _log(self.largest)
        columns = z.max(axis=1)
        rest = np.where(self.largest > 0, z - columns[:, None], _LOWEST)
        rows = rest.max(axis=2)
        return columns, rows, np.where(self.largest > 0, np.exp(BETA * (rest - rows[..., None])), 0.0)


Term = ActivationNoise | WeightNoise


def noise(terms: Sequence[Term], u: Array) -> float:
    """J at u = log a, one number for each class; `u[0]` is 0."""
    gradient = np.zeros_like(u)
    return sum(term.add(u, gradient) for term in terms)


def least_noise(terms: Sequence[Term], n_classes: int) -> Array:
    """u = log a of least noise; class 0 stays at 0, as do classes that no term knows.

    Args:
        terms: of the noise.
        n_classes: class 0, which is pinned, included.
    """
    from scipy.optimize import minimize

    def logarithm(free: Array) -> tuple[float, Array]:
        u = np.concatenate([[0.0], free])
        gradient = np.zeros_like(u)
        total = sum(term.add(u, gradient) for term in terms)
        if total <= 0:
            return 0.0, np.zeros_like(free)
        return float(np.log(total)), gradient[1:] / total

    start = _even_peaks(terms, n_classes)[1:]
    if not start.size:
        return np.zeros(1)
    # Past SciPy's own limits (2.2e-9 and 1e-5), at which the units still depended on where the search began.
    found = minimize(
        logarithm,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": MOST_ITERATIONS, "maxfun": 10 * MOST_ITERATIONS, "ftol": 1e-13, "gtol": 1e-9},
    )
    return np.concatenate([[0.0], found.x])


def _even_peaks(terms: Sequence[Term], n_classes: int) -> Array:
    """u by which every class is as large as class 0, where its magnitudes are known.

    A search that begins there takes the same steps from whatever units a network came in: where it ends does not depend
    on them, even where it is cut short.
    """
    peak = np.zeros(n_classes)
    for term in terms:
        if isinstance(term, ActivationNoise):
            np.maximum.at(peak, term.classes, np.maximum(term.low, term.high))
    known = peak > 0
    u = np.where(known, -np.log(np.where(known, peak, 1.0)), 0.0)
    return np.asarray(np.where(known, u - u[0], 0.0))


def _add(gradient: Array, classes: Array, slope: Array) -> None:
    """Add the slope of each class up."""
    np.add.at(gradient, classes.ravel(), slope.ravel())


def _log(x: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(np.maximum(np.log(x), _LOWEST))


def _largest(z: Array) -> tuple[Array, Array]:
    """exp of the smooth maximum of z over the last axis, and its derivative by each z over itself."""
    peak = z.max(axis=-1, keepdims=True)
    powers = np.exp(BETA * (z - peak))
    total = powers.sum(axis=-1, keepdims=True)
    value = np.exp(peak + np.log(total) / BETA)[..., 0]
    return np.where(peak[..., 0] <= _LOWEST / 2, 0.0, value), powers / total
