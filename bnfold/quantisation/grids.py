"""Scales and zero points, integer weights and biases.

    q = clip(round(x / s) + z, 0, 255)            s = (high - low) / 255,  z = round(-low / s),  low <= 0 <= high
    in s8: q and z smaller by 128, -128 to 127
    q_w = clip(round(w / s_w), -n, n)             s_w = t max |w| / n per output channel, n = 127, 1 <= t <= 1.15
    q_b = round(b / (s s_w))                      in int32

rounded so that errors cancel in what the layer computes (`nearest_plane`), where it is known what it reads; else of a
convolution so that

    sum_k (q_wck - w_ck / s_w)  over the taps k of a channel c lies within 1/2

The step of an output channel of few weights is the one of least error, see `_least_error`; t is 1 for others.

Scales are stored in float32; all else is computed in float64 from the stored scale. Rounding is to even.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from bnfold.quantisation.nearest_plane import nearest_plane
from bnfold.records.recipes import Activations, WeightScales

__all__ = ["LEVELS", "Grid", "IntegerWeight", "grid_of", "integer_bias", "integer_weight"]

LEVELS = 255
SIGNED = 128  # by how much s8 lies below u8
BIAS_LIMIT = 2**30
_SMALLEST = float(np.finfo(np.float32).tiny) * 2**24  # products and quotients of two such scales are still normal
STRETCHES = tuple(1 + k / 200 for k in range(31))
COMMON = 3.0  # r / (1 - r) of taps that correlate by r
FEW = 512  # weights of an output channel: squared errors of n differ from step to step by 0.9 / sqrt(n), 4 %

Array = np.ndarray


@dataclasses.dataclass(frozen=True)
class Grid:
    """The scale and the zero point of an activation: 256 equal steps, of which one is 0."""

    scale: np.float32
    zero_point: np.uint8 | np.int8


@dataclasses.dataclass(frozen=True)
class IntegerWeight:
    """`values` of int8 and `scale` in float32: one number, or one for each channel of `axis`."""

    values: Array
    scale: Array
    axis: int


def grid_of(low: float, high: float, activations: Activations = "u8") -> Grid:
    """The grid of a range that 0 lies in; that of a value that is always 0 has steps of 1."""
    if not low <= 0 <= high:
        raise ValueError(f"0 must lie in the range, got {low} to {high}")
    width = float(high) - float(low)
    scale = np.float32(max(width / LEVELS, _SMALLEST) if width else 1.0)
    zero_point = np.clip(np.rint(-float(low) / np.float64(scale)), 0, LEVELS)
    return Grid(scale, np.uint8(zero_point) if activations == "u8" else np.int8(zero_point - SIGNED))


def integer_weight(
    w: Array,
    axis: int,
    scales: WeightScales,
    limit: int,
    *,
    input_scale: np.float32,
    bias: Array | None,
    moments: Array | None = None,
) -> IntegerWeight:
    """The integers of a weight.

    A scale is never so small that the bias of its channel, in units of it, would leave int32: a channel whose weights
    are (nearly) 0 has a bias that counts.

    Args:
        w: the weight: (M, C / groups, taps...) of a convolution, else a matrix.
        axis: that counts the output channels.
        scales: one for each of them, or one for all.
        limit: the largest magnitude of an integer.
        input_scale: of the activation that it is multiplied with.
        bias: one number for each output channel.
        moments: of what the weights of an output channel are multiplied with, (K, K), see `input_moments`.
    """
    moved = np.moveaxis(w.astype(np.float64), axis, 0)
    largest = np.abs(moved).reshape(len(moved), -1).max(axis=1, initial=0.0) / limit
    if bias is not None:
        largest = np.maximum(largest, np.abs(bias.astype(np.float64)) / (np.float64(input_scale) * BIAS_LIMIT))
    largest = np.where(largest > 0, np.maximum(largest, _SMALLEST), 1.0 if scales == "per-channel" else 0.0)
    if scales == "per-tensor":
        largest = np.asarray(largest.max() or 1.0)
    scale = np.asarray(largest, np.float32)
    if scales == "per-channel" and moved[0].size <= FEW:
        scale = _least_error(moved, scale, limit)
    if moments is None:
        values = _whole(moved, scale, limit)
    else:
        rows = nearest_plane(moved.reshape(len(moved), -1), np.asarray(scale, np.float64), limit, moments)
        values = rows.reshape(moved.shape).astype(np.int8)
    return IntegerWeight(np.ascontiguousarray(np.moveaxis(values, 0, axis)), scale, axis)


def _whole(w: Array, scale: Array, limit: int) -> Array:
    """Integers of a weight, output channels first."""
    exact = w / (np.float64(scale).reshape(-1, *(1,) * (w.ndim - 1)) if scale.ndim else np.float64(scale))
    whole = _with_sums(exact) if exact[0, 0].size > 1 else np.rint(exact)
    return np.asarray(np.clip(whole, -limit, limit), np.int8)


def _least_error(w: Array, scale: Array, limit: int) -> Array:
    """Steps of output channels that are a little longer, where the weights happen to lie nearer to whole ones.

        e_ck = s q_ck - w_ck        sum_c (sum_k e_ck^2 + 3 (sum_k e_ck)^2)        over channels c and taps k

    That is the error of what is read where any two taps of a channel correlate by 3/4.
    """
    best, least = scale, np.full(len(w), np.inf)
    for stretch in STRETCHES:
        tried: Array = np.asarray(scale.astype(np.float64) * stretch, np.float32)
        steps = np.float64(tried).reshape(-1, *(1,) * (w.ndim - 1))
        off = (_whole(w, tried, limit) * steps - w).reshape(*w.shape[:2], -1)
        error = (off**2).sum(axis=(1, 2)) + COMMON * (off.sum(axis=2) ** 2).sum(axis=1)
        best, least = np.where(error < least, tried, best), np.minimum(error, least)
    return best


def _with_sums(exact: Array) -> Array:
    """Whole numbers whose sum over the taps of a channel is nearest: those nearest to a half are rounded the other way.

    What a convolution reads is smooth, in the image as in later layers: what neighbouring taps have in common is most
    of the signal of a channel, and an error of the sum over taps is an error for all of it. (Nagel et al. 2020, Up or
    Down?, section 3: rounding to the nearest is far from best, since errors of weights that read like inputs add up.)

    Args:
        exact: weights in steps, (M, C / groups, taps...).
    """
    whole = np.rint(exact)
    off = (whole - exact).reshape(*exact.shape[:2], -1)
    surplus = np.rint(off.sum(axis=2, keepdims=True))
    rank = np.argsort(np.argsort(-off * np.sign(surplus), axis=2, kind="stable"), axis=2)
    return np.asarray(whole - ((rank < np.abs(surplus)) * np.sign(surplus)).reshape(whole.shape))


def integer_bias(bias: Array, input_scale: np.float32, weight_scale: Array) -> tuple[Array, Array]:
    """The bias in int32, one number for each output channel, and its scale in float32."""
    scale = np.float32(input_scale) * weight_scale.astype(np.float32)
    product = np.float64(input_scale) * weight_scale.astype(np.float64)
    return np.rint(bias.astype(np.float64) / product).astype(np.int32), np.asarray(scale, np.float32)
