"""Whether a value of the file is what its counterpart says, up to float64 rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bnfold.verification.certificate.draws import expected, left

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnfold.records.certificate import Counterpart

__all__ = ["PROMISE", "Outcome", "constant_elements", "judged", "unit_axes"]

# What the fold promises: in float64 the folded graph equals the source to this part of what a channel varies by.
PROMISE = 1e-10
ROUNDING = 2.0**-45  # of a channel's largest magnitude, which a bias may make large against that
# Relative change of all that is read, by which it is found how far rounding may carry: n 2^-53 sum |terms|, n to 2^13.
MOVED = 2.0**-40
_CONSTANT = 2.0**-40  # how far elements that are always one number may lie apart, relative to it: sums in other orders


@dataclass(frozen=True)
class Outcome:
    """The largest error, relative to its channel; `failure` says what does not agree."""

    error: float
    failure: str | None = None
    fits: bool = True  # the shapes do


def unit_axes(counterpart: Counterpart) -> tuple[int, ...]:
    """The axes along which units differ or channels are missing."""
    axes = set(counterpart.kept)
    for array in (counterpart.scale, counterpart.offset):
        if array is not None:
            axes |= {axis for axis, length in enumerate(array.shape) if length > 1}
    return tuple(sorted(axes))


def constant_elements(value: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """What elements always are, NaN where they vary; of length 1 along all axes but these."""
    others = tuple(axis for axis in range(value.ndim) if axis not in axes)
    low, high = value.min(axis=others, keepdims=True), value.max(axis=others, keepdims=True)
    size = np.maximum(np.abs(low), np.abs(high))
    found: np.ndarray = np.where(high - low <= _CONSTANT * size, (low + high) / 2, np.nan)
    return found


def judged(
    file: np.ndarray, source: np.ndarray, counterpart: Counterpart, moved: Callable[[], tuple[np.ndarray, np.ndarray]]
) -> Outcome:
    """Compare a value with `a (v + d)`.

    Args:
        file: the value of the file.
        source: its counterpart.
        counterpart: what is claimed.
        moved: both again, from inputs and parameters that are changed by `MOVED` of themselves; asked for only where
            cancellation leaves fewer digits than promised.
    """
    whole = left(source, counterpart)
    if file.shape != whole.shape:
        return Outcome(np.inf, f"shape {file.shape} in the file, {whole.shape} in the source", fits=False)
    if file.dtype.kind != "f" or source.dtype.kind != "f":
        same = file.dtype == whole.dtype and bool(np.array_equal(file, whole))
        return Outcome(0.0) if same else Outcome(np.inf, "integers differ")
    with np.errstate(all="ignore"):
        wanted = expected(source, counterpart)
        told = np.ones(file.shape, bool)
        if counterpart.scale is not None:
            told = np.broadcast_to(~np.isnan(counterpart.scale), file.shape)
        error = np.where(told, np.abs(file - wanted), 0.0)
        size = np.where(told, np.maximum(np.abs(file), np.abs(wanted)), 0.0)
        if counterpart.offset is not None and counterpart.scale is not None:
            size = np.where(told, np.maximum(size, np.abs(counterpart.scale * counterpart.offset)), 0.0)
        equal = told & (file == wanted)  # infinities
        error = np.where(equal, 0.0, error)
        worst, largest = (_by_channel(array, unit_axes(counterpart)) for array in (error, size))
        relative = float(np.max(np.where(worst > 0, worst / largest, 0.0), initial=0.0))
    if np.isnan(worst).any():
        return Outcome(np.inf, "not a number")
    with np.errstate(all="ignore"):
        axes = unit_axes(counterpart)
        high = _by_channel(np.where(told, wanted, -np.inf), axes, initial=-np.inf)
        low = -_by_channel(np.where(told, -wanted, -np.inf), axes, initial=-np.inf)
        within = PROMISE * np.where(np.isfinite(high - low), high - low, 0.0) + ROUNDING * largest
    if (worst <= within).all():
        return Outcome(relative)
    file_moved, source_moved = moved()
    with np.errstate(all="ignore"):
        drift = np.where(told, np.abs(file_moved - file) + np.abs(expected(source_moved, counterpart) - wanted), 0.0)
    allowed = np.maximum(within, _by_channel(drift, unit_axes(counterpart)))
    if (worst <= allowed).all():
        return Outcome(relative)
    return Outcome(relative, f"off by {relative:.3g} of its channel's largest magnitude")


def _by_channel(array: np.ndarray, axes: tuple[int, ...], initial: float = 0.0) -> np.ndarray:
    """The largest element of each channel: along axis 1, and the axes along which units differ."""
    kept = {*axes, 1 if array.ndim > 1 else 0}
    found: np.ndarray = array.max(axis=tuple(a for a in range(array.ndim) if a not in kept), initial=initial)
    return found
