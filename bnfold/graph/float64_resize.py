"""Resize and Upsample in float64, one axis after the other, with the sizes and coordinates that runtimes take.

ONNX's own evaluator takes the length of the resized axis for `scale * length`, which has digits behind the point where
scales are fractional: its `align_corners` then meets other cells, and its length is another one where the product is
rounded up to a whole number in float32. It has no linear Upsample, and no Resize of opset 10.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_resize import Resize as OnnxResize

__all__ = ["Resize", "Upsample"]

Array = np.ndarray
_SUPPORT = {"linear": 1.0, "cubic": 2.0}  # where a filter ends
_WITH_ROI = 11  # the opset from which inputs are (X, roi, scales, sizes), before: (X, scales)


class Resize(OpRun):
    """y[i] = sum_k w_k(i) x[clip(k)] along each axis, with the coordinate of i as coordinate_transformation_mode says.

    https://onnx.ai/onnx/operators/onnx__Resize.html. Antialiased ones of other coordinates are ONNX's.
    """

    def _run(
        self,
        x: Array,
        roi: Array | None = None,
        scales: Array | None = None,
        sizes: Array | None = None,
        **attributes: Any,
    ) -> tuple[Array]:
        if self.run_params["opsets"].get("", _WITH_ROI) < _WITH_ROI:
            return (_simple(x, roi, str(attributes["mode"])),)
        axes = [axis % x.ndim for axis in attributes.get("axes") or range(x.ndim)]
        lengths, factors = _lengths(x, axes, scales, sizes, attributes.get("keep_aspect_ratio_policy"))
        if attributes.get("antialias"):
            if attributes["coordinate_transformation_mode"] == "half_pixel" and attributes["mode"] in _SUPPORT:
                return (_antialiased(x, axes, lengths, factors, attributes),)
            original: Any = OnnxResize(self.onnx_node, self.run_params)
            antialiased: tuple[Array] = original._run(x, roi, scales, sizes, **attributes)
            return antialiased
        cropped = attributes["coordinate_transformation_mode"] == "tf_crop_and_resize"
        for k, (axis, length, factor) in enumerate(zip(axes, lengths, factors, strict=True)):
            if not cropped and length == x.shape[axis] and factor == 1:
                continue
            crop = (roi[k], roi[len(axes) + k]) if cropped and roi is not None else None
            x = _along(x, axis, length, factor, crop=crop, **attributes)
        return (x,)


class Upsample(OpRun):
    """Coordinates i / scale, down to the cell below (nearest) or between cells (linear); opsets 7 to 9."""

    def _run(self, x: Array, scales: Any = None, mode: str | None = None) -> tuple[Array]:
        return (_simple(x, scales, mode or "nearest"),)


def _antialiased(
    x: Array, axes: Sequence[int], lengths: Sequence[int], factors: Sequence[Any], attributes: dict[str, Any]
) -> Array:
    """y[i] = sum_k f((k + 1/2 - c_i) / w) x[k] / sum_k f(...), c_i = (i + 1/2) / factor, w = max(1 / factor, 1).

    Cells outside of the image do not count where they are excluded, as in Pillow and PyTorch; else they are the edge's.
    """
    mode, a, excluded = str(attributes["mode"]), float(attributes["cubic_coeff_a"]), attributes.get("exclude_outside")
    for axis, length, factor in zip(axes, lengths, factors, strict=True):
        n = x.shape[axis]
        if length == n and factor == 1:
            continue
        wide = max(1 / float(factor), 1.0)
        centre = (np.arange(length)[:, None] + 0.5) / float(factor)
        beyond = math.ceil(_SUPPORT[mode] * wide) + 1
        cells = np.arange(-beyond, n + beyond)[None]
        first, last = (np.floor(centre + end * _SUPPORT[mode] * wide + 0.5) for end in (-1, 1))
        distance = np.abs(cells + 0.5 - centre) / wide
        weights = np.maximum(1 - distance, 0.0) if mode == "linear" else _cubic(distance, a)
        weights = np.where((cells >= first) & (cells < last), weights, 0.0)
        inside = weights[:, beyond : beyond + n].copy()
        if not excluded:
            inside[:, 0] += weights[:, :beyond].sum(axis=1)
            inside[:, -1] += weights[:, beyond + n :].sum(axis=1)
        weights = inside / inside.sum(axis=1, keepdims=True)
        x = np.moveaxis(np.tensordot(weights, x, axes=(1, axis)), 0, axis).astype(x.dtype)
    return x


def _simple(x: Array, scales: Any, mode: str) -> Array:
    """What Upsample and Resize of opset 10 do; where it becomes smaller the nearest cell is the one above."""
    factors = np.asarray(scales, np.float32)
    lengths, _ = _lengths(x, range(x.ndim), factors, None, None)
    for axis, (length, factor) in enumerate(zip(lengths, factors, strict=True)):
        if factor != 1:
            nearest = "ceil" if factor < 1 else "floor"
            x = _along(
                x, axis, length, factor, mode=mode, coordinate_transformation_mode="asymmetric", nearest_mode=nearest
            )
    return x


def _lengths(
    x: Array, axes: Sequence[int], scales: Array | None, sizes: Array | None, policy: str | None
) -> tuple[list[int], list[Any]]:
    """The new length and the factor of each axis; a length is a product in float32, as the scale is."""
    old = [x.shape[axis] for axis in axes]
    if sizes is None or np.size(sizes) == 0:
        factors = list(np.asarray(scales, np.float32))
        return [int(factor * np.float32(n)) for factor, n in zip(factors, old, strict=True)], factors
    lengths = [int(size) for size in sizes]
    ratios = [length / n for length, n in zip(lengths, old, strict=True)]
    if policy in {"not_larger", "not_smaller"}:
        ratios = [min(ratios) if policy == "not_larger" else max(ratios)] * len(ratios)
        lengths = [math.floor(ratio * n + 0.5) for ratio, n in zip(ratios, old, strict=True)]
    return lengths, ratios


def _along(x: Array, axis: int, length: int, factor: Any, *, mode: str, crop: Any = None, **attributes: Any) -> Array:
    """One axis in its new length."""
    n = x.shape[axis]
    real = np.float32 if mode == "nearest" else np.float64  # a coordinate at .5 is another cell by its last digit
    how = str(attributes["coordinate_transformation_mode"])
    at = _coordinates(n, length, real(factor), crop=crop, how=how, real=real)
    if mode == "nearest":
        cells, weights = _nearest(at, str(attributes.get("nearest_mode")))[:, None], np.ones((length, 1))
    else:
        below = np.floor(at)
        taps = np.arange(2) if mode == "linear" else np.arange(-1, 3)
        cells = below[:, None].astype(np.int64) + taps
        distance = np.abs(at[:, None] - cells)
        weights = 1 - distance if mode == "linear" else _cubic(distance, float(attributes["cubic_coeff_a"]))
    if attributes.get("exclude_outside"):
        weights = np.where((cells < 0) | (cells >= n), 0.0, weights)
        weights = weights / weights.sum(axis=1, keepdims=True)
    taken = np.take(x, np.clip(cells, 0, n - 1), axis=axis)
    y: Array = (taken * weights.reshape(*weights.shape, *(1,) * (x.ndim - axis - 1))).sum(axis=axis + 1)
    if crop is not None:
        outside = ((at < 0) | (at > n - 1)).reshape(-1, *(1,) * (x.ndim - axis - 1))
        y = np.where(outside, float(attributes["extrapolation_value"]), y)
    return y.astype(x.dtype)


def _coordinates(n: int, length: int, factor: Any, *, crop: Any, how: str, real: Any) -> Array:
    """Where each new cell lies among the old ones."""
    i = np.arange(length, dtype=real)
    half = real(0.5)
    at: Array | None = None
    match how:
        case "asymmetric":
            at = i / factor
        case "align_corners":
            at = i * real(n - 1) / real(max(length - 1, 1))
        case "half_pixel":
            at = (i + half) / factor - half
        case "pytorch_half_pixel":
            at = (i + half) / factor - half if length > 1 else i
        case "half_pixel_symmetric":
            offset = real(n) / 2 * (1 - real(length) / (factor * real(n)))
            at = offset + (i + half) / factor - half
        case "tf_half_pixel_for_nn":
            at = (i + half) / factor
        case "tf_crop_and_resize" if crop is not None:
            start, end = (real(bound) * real(n - 1) for bound in crop)
            at = start + i * (end - start) / real(length - 1) if length > 1 else i + half * (start + end)
    if at is None:
        raise ValueError(f"coordinate_transformation_mode {how}, roi {crop}")
    return at


def _nearest(at: Array, how: str) -> Array:
    match how:
        case "round_prefer_floor":
            at = np.ceil(at - at.dtype.type(0.5))
        case "round_prefer_ceil":
            at = np.floor(at + at.dtype.type(0.5))
        case "floor":
            at = np.floor(at)
        case "ceil":
            at = np.ceil(at)
        case _:
            raise ValueError(f"nearest_mode {how}")
    return at.astype(np.int64)


def _cubic(distance: Array, a: float) -> Array:
    """Keys 1981, with the kernel's free parameter a."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
