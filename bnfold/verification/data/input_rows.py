"""The rows of one input, each made when asked for: real samples, random values, and values that excite the borders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.errors import InputRefused
from bnfold.verification.data.input_facts import InputFacts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnfold.records import InputSpec

__all__ = ["InputRows", "channel_statistics"]

BRIGHT = 4.0  # standard deviations of a bright pixel above the mean
N_SAMPLES_MEASURED = 256  # rows that the statistics of real samples are taken from


class InputRows:
    """Rows of one input by number: 0, 1, ... real samples or random rows, -1, -2, ... border rows.

    Args:
        spec: with every axis but the batch fixed.
        samples: real inputs by name, samples first, or None.
        facts: of this input.
        seed: of the random rows, and of the order of the samples.

    Raises:
        InputRefused: an unknown axis, a dtype without values to try, or samples that do not fit.
    """

    def __init__(
        self, spec: InputSpec, samples: Mapping[str, np.ndarray] | None, facts: InputFacts, seed: tuple[int, int]
    ) -> None:
        self.name = spec.name
        self._spec = spec
        self._facts = facts
        self._seed = seed
        self.shape = _row_shape(spec)
        self.n_values = int(np.prod(self.shape))
        self.dtype = _dtype(spec)
        self._samples = None if samples is None else _fitting_samples(spec, samples, self.shape)
        self.n_samples = 0 if self._samples is None else len(self._samples)
        self._order = np.random.default_rng(seed).permutation(self.n_samples)
        self.mean, self.deviation = self._statistics()
        self.borders = self._border_rows() if self._has_borders else []

    @property
    def _has_borders(self) -> bool:
        """Numbers of floating point have, and pixels: images of bytes."""
        is_image = self.dtype == np.uint8 and self._facts.integers_below is None and len(self.shape) == 3
        return (self.dtype.kind == "f" and bool(self._spec.shape)) or is_image

    def stack(self, rows: Sequence[int]) -> np.ndarray:
        """Rows as one array along the batch axis, as many as the input has where that is fixed.

        An input without one is the last of the rows: in `make_feeds` that is one which other feeds hold, too.
        """
        axis, fixed = self._spec.batch_axis, self._spec.fixed_batch
        if axis is None or not self._spec.has_batch:
            return np.asarray(self.row(rows[-1]))
        wanted = rows if fixed is None else [rows[i % len(rows)] for i in range(fixed)]
        return np.stack([self.row(number) for number in wanted], axis)

    def row(self, number: int) -> np.ndarray:
        """A row; the same for the same number. Inputs without border rows (integers) have random ones there."""
        if number < 0:
            number = -1 - number
            if self.borders:
                return self.borders[min(number, len(self.borders) - 1)]
        if self._samples is not None:
            return np.asarray(self._samples[self._order[number % self.n_samples]])
        generator = np.random.default_rng((*self._seed, number))
        if self.dtype.kind == "b":
            return np.asarray(generator.integers(0, 2, self.shape)).astype(self.dtype)
        if self._spec.constant is not None:
            return np.full(self.shape, self._spec.constant, self.dtype)
        if self.dtype.kind in "iu":
            below = self._facts.integers_below or (256 if self.dtype == np.uint8 else 2)
            return np.asarray(generator.integers(0, below, self.shape)).astype(self.dtype)
        if self._spec.between is not None:
            return np.asarray(generator.uniform(*self._spec.between, self.shape)).astype(self.dtype)
        normal = generator.standard_normal(self.shape)
        return np.asarray(self.mean + self.deviation * normal).astype(self.dtype)

    def _statistics(self) -> tuple[np.ndarray, np.ndarray]:
        channel = (-1, *(1,) * (len(self.shape) - 1))
        facts = self._facts
        if (facts.mean is None or facts.deviation is None) and self._samples is not None and self.shape:
            facts = channel_statistics(self._samples) or facts
        if facts.mean is not None and facts.deviation is not None and facts.mean.shape == self.shape[:1]:
            return facts.mean.reshape(channel), facts.deviation.reshape(channel)
        return np.zeros(()), np.ones(())

    def _border_rows(self) -> list[np.ndarray]:
        low, high = self._range()
        constants = [np.zeros(()), self.mean + self.deviation, self.mean - self.deviation]
        if low is not None and high is not None:
            constants = [np.asarray(value) for value in (low, high, (low + high) / 2)]
        rows = [np.broadcast_to(value, self.shape) for value in constants]
        if len(self.shape) >= 2:  # channels and space
            first, last = (0,) * (len(self.shape) - 1), tuple(size - 1 for size in self.shape[1:])
            middle = tuple(size // 2 for size in self.shape[1:])
            edges = [
                (*middle[:axis], end[axis], *middle[axis + 1 :]) for axis in range(len(middle)) for end in (first, last)
            ]
            rows += [self._bright([first]), self._bright([last]), self._bright(edges)]
        return [row.astype(self.dtype) for row in rows]

    def _range(self) -> tuple[float | None, float | None]:
        return (0.0, 255.0) if self.dtype == np.uint8 else self._spec.between or (None, None)

    def _bright(self, pixels: Sequence[tuple[int, ...]]) -> np.ndarray:
        low, high = self._range()
        row = np.full(self.shape, low or 0.0)
        level = np.broadcast_to(self.mean + BRIGHT * self.deviation if high is None else high, self.shape)
        for pixel in pixels:
            where: tuple[Any, ...] = (slice(None), *pixel)
            row[where] = level[where]
        return row


def channel_statistics(rows: np.ndarray) -> InputFacts | None:
    """Mean and deviation per channel (axis 1) of the first rows; None for whole numbers."""
    if rows.dtype.kind != "f":
        return None
    measured = np.asarray(rows[:N_SAMPLES_MEASURED], dtype=np.float64)
    axes = (0, *range(2, measured.ndim))
    return InputFacts(mean=measured.mean(axes), deviation=measured.std(axes))


def _row_shape(spec: InputSpec) -> tuple[int, ...]:
    if None in spec.row:
        raise InputRefused(
            "the sizes of an input are not known",
            where=f"input {spec.name}",
            found=str(spec.shape),
            remedy="state them with --input-shape",
        )
    return tuple(size for size in spec.row if size is not None)


def _dtype(spec: InputSpec) -> np.dtype[Any]:
    dtype = np.dtype(spec.dtype)  # onnx has registered bfloat16 with NumPy, through ml_dtypes, as kind "V"
    if dtype.kind not in "fiub":
        raise InputRefused(
            "no inputs can be made up", where=f"input {spec.name}", found=spec.dtype, expected="numbers or booleans",
            remedy="give them with --inputs FILE.npz",
        )  # fmt: skip
    return dtype


def _fitting_samples(spec: InputSpec, samples: Mapping[str, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    if spec.name not in samples:
        raise InputRefused(
            "the samples lack an input",
            where=f"input {spec.name}",
            found=", ".join(sorted(samples)) or "none",
            remedy="name the arrays as the inputs of the network",
        )
    rows = np.asarray(samples[spec.name])
    if len(rows) == 0 or rows.shape[1:] != shape or rows.dtype.name != spec.dtype:
        raise InputRefused(
            "the samples do not fit",
            where=f"input {spec.name}",
            found=f"{rows.dtype.name} {rows.shape}",
            expected=f"{spec.dtype} (samples, {', '.join(map(str, shape))})",
            remedy="store at least one sample as the network reads it",
        )
    return rows
