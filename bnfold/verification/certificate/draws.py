"""Random numbers for the values that a region reads, the same ones in the units of both graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from bnfold.records.certificate import Counterpart
    from bnfold.verification.certificate.regions import Proven

__all__ = ["STEP", "draw", "expected", "left"]

STEP = 8.0  # the magnitude of a row against that of the row before, so that bounded activations are met on both sides

MAGNITUDES = 4  # different ones, then the first again


def left(array: np.ndarray, counterpart: Counterpart) -> np.ndarray:
    """The channels of a value of the source that the file has."""
    for axis, positions in counterpart.kept.items():
        array = array.take(positions, axis=axis)
    return array


def expected(value: np.ndarray, counterpart: Counterpart) -> np.ndarray:
    """`a (v + d)` on the channels that are left; NaN where the file says nothing."""
    value = left(value, counterpart)
    if counterpart.offset is not None:
        value = value + counterpart.offset
    return value if counterpart.scale is None else counterpart.scale * value


def draw(
    proven: Sequence[Proven],
    shape: tuple[int, ...],
    file_shape: tuple[int, ...],
    rng: np.random.Generator,
    step: float = STEP,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """A value of the file, and its counterparts in the source.

    Each element that the file and a counterpart have in common is random in one and follows from it in the other;
    elements that always are one number are that number; all others are random in both, and not the same.

    Args:
        proven: of one value of the file.
        shape: of the counterparts.
        file_shape: of the value of the file.
        rng: the random numbers.
        step: the magnitude of a row against that of the row before.
    """
    array = _random(file_shape, rng, step)
    settled = np.zeros(file_shape, bool)
    for one in proven:
        if one.file_constant is not None:
            _fill(array, one.file_constant, settled)
    for one in proven:
        told = _told(one.counterpart, file_shape)
        new = told & ~settled
        if new.any():
            value = _random(file_shape, rng, step)
            if one.source_constant is not None:
                _fill(value, left(one.source_constant, one.counterpart), np.zeros(file_shape, bool))
            array = np.where(new, _in_units(value, one.counterpart), array)
            settled |= told
    return array, [_counterpart(one, array, shape, rng, step) for one in proven]


def _counterpart(
    one: Proven, array: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator, step: float
) -> np.ndarray:
    counterpart = one.counterpart
    if counterpart.is_whole:
        return array
    value = _random(shape, rng, step)
    if one.source_constant is not None:
        _fill(value, one.source_constant, np.zeros(shape, bool))
    told = _told(counterpart, array.shape)
    back = array if counterpart.scale is None else array / np.where(np.isnan(counterpart.scale), 1.0, counterpart.scale)
    back = back if counterpart.offset is None else back - counterpart.offset
    index: list[NDArray[np.int64]] = [
        np.asarray(counterpart.kept.get(axis, np.arange(length))) for axis, length in enumerate(shape)
    ]
    place = np.ix_(*index)
    value[place] = np.where(told, back, value[place])
    return value


def _in_units(value: np.ndarray, counterpart: Counterpart) -> np.ndarray:
    shifted = value if counterpart.offset is None else value + counterpart.offset
    return shifted if counterpart.scale is None else counterpart.scale * shifted


def _told(counterpart: Counterpart, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which elements of the file's value tell the counterpart's."""
    if counterpart.scale is None:
        return np.ones(shape, bool)
    return np.broadcast_to(~np.isnan(counterpart.scale), shape)


def _fill(array: np.ndarray, constants: np.ndarray, settled: NDArray[np.bool_]) -> None:
    """Put constants (NaN: none) where nothing is settled yet."""
    if constants.ndim != array.ndim or any(n not in (1, m) for n, m in zip(constants.shape, array.shape, strict=True)):
        return  # of another length
    known = np.broadcast_to(constants, array.shape)
    places = ~np.isnan(known) & ~settled
    array[places] = known[places]


def _random(shape: tuple[int, ...], rng: np.random.Generator, step: float) -> np.ndarray:
    array = np.asarray(rng.standard_normal(shape))
    if array.ndim == 0:
        return array
    rows = step ** (np.arange(shape[0]) % MAGNITUDES) if shape[0] > 1 else np.array([2.0])
    scaled: np.ndarray = array * rows.reshape(-1, *(1,) * (array.ndim - 1))
    return scaled
