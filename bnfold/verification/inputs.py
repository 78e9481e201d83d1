"""What the two sides are compared on: real samples or random inputs, and inputs that excite the borders."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bnfold.errors import InputRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bnfold.records import InputSpec

__all__ = ["Feed", "InputFacts", "make_feeds"]

Kind = Literal["samples", "random", "border"]
BRIGHT = 4.0  # standard deviations of a bright pixel above the mean
N_SAMPLES_MEASURED = 256  # rows that the statistics of real samples are taken from
SMALL_ROW = 1 << 14  # values of one row up to which the largest batch is repeated, for a steadier measure
N_REPEATS = 4


@dataclass(frozen=True)
class InputFacts:
    """What a graph tells of an input: a bound of its integers (exclusive), mean and deviation per channel (axis 1)."""

    integers_below: int | None = None
    mean: np.ndarray | None = None
    deviation: np.ndarray | None = None


@dataclass(frozen=True)
class Feed:
    """One set of inputs by name, all with the same batch."""

    kind: Kind
    batch: int
    arrays: Mapping[str, np.ndarray] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.kind} inputs, batch {self.batch}"


def make_feeds(
    inputs: Sequence[InputSpec],
    *,
    samples: Mapping[str, np.ndarray] | None,
    facts: Mapping[str, InputFacts],
    batches: Sequence[int],
    seed: int,
) -> Iterator[Feed]:
    """Yield the inputs of a comparison, one batch at a time.

    Row 0 of every batch of real samples or random inputs is the same, so that it can be compared with itself alone;
    the other rows are new each time. Random floating-point inputs are normal, with the mean and deviation that the
    network expects where `facts` knows them; random integers lie below the size of the table they index. Border
    inputs: zero, constants at mean plus and minus a deviation, and single bright pixels in the corners and edges.

    Args:
        inputs: with every axis but the batch fixed.
        samples: real inputs by name, rows first.
        facts: by input name; an input may be missing.
        batches: sizes, ascending.
        seed: of everything random.

    Raises:
        InputRefused: an input has an unknown axis or a dtype without values to try, or samples do not fit.
    """
    sources = [
        _RowSource(spec, samples, facts.get(spec.name, InputFacts()), (seed, i)) for i, spec in enumerate(inputs)
    ]
    kind: Kind = "random" if samples is None else "samples"
    fresh = 1
    is_small = sum(source.n_values for source in sources) <= SMALL_ROW
    for batch in (*batches, *[batches[-1]] * (N_REPEATS if is_small else 0)):
        rows = [0, *range(fresh, fresh + batch - 1)]
        fresh += batch - 1
        yield Feed(kind, batch, {source.name: source.stack(rows, source.row) for source in sources})
    n_border = max((len(source.borders) for source in sources), default=0)
    for start in range(0, n_border, batches[-1]):
        rows = [min(row, n_border - 1) for row in range(start, start + batches[-1])]
        if len(batches) > 1:
            rows = sorted(set(rows))
        yield Feed("border", len(rows), {source.name: source.stack(rows, source.border) for source in sources})


class _RowSource:
    """Rows of one input, each made when asked for."""

    def __init__(
        self,
        spec: InputSpec,
        samples: Mapping[str, np.ndarray] | None,
        facts: InputFacts,
        seed: tuple[int, int],
    ) -> None:
        self.name = spec.name
        self._spec = spec
        self._facts = facts
        self._seed = seed
        self.shape = _row_shape(spec)
        self.n_values = int(np.prod(self.shape))
        self.dtype = _dtype(spec)
        self._samples = None if samples is None else _fitting_samples(spec, samples, self.shape)
        self._order = None if self._samples is None else np.random.default_rng(seed).permutation(len(self._samples))
        self.mean, self.deviation = self._statistics()
        self.borders = self._border_rows() if self.dtype.kind == "f" and self._spec.shape else []

    def stack(self, indices: Sequence[int], make: Callable[[int], np.ndarray]) -> np.ndarray:
        """Rows as one array, as many as the input has where its first axis is fixed."""
        if not self._spec.shape:
            return np.asarray(make(indices[0]))
        fixed = self._spec.shape[0]
        wanted = indices if fixed is None else [indices[i % len(indices)] for i in range(fixed)]
        return np.stack([make(index) for index in wanted])

    def row(self, index: int) -> np.ndarray:
        """A real sample where there are some, else a random row; the same for the same index."""
        if self._samples is not None and self._order is not None:
            return np.asarray(self._samples[self._order[index % len(self._order)]])
        generator = np.random.default_rng((*self._seed, index))
        if self.dtype.kind == "b":
            return np.asarray(generator.integers(0, 2, self.shape)).astype(self.dtype)
        if self.dtype.kind in "iu":
            return np.asarray(generator.integers(0, self._facts.integers_below or 2, self.shape)).astype(self.dtype)
        normal = generator.standard_normal(self.shape)
        return np.asarray(self.mean + self.deviation * normal).astype(self.dtype)

    def border(self, index: int) -> np.ndarray:
        """Border row `index`; inputs that have none (integers) get random rows."""
        return self.borders[min(index, len(self.borders) - 1)] if self.borders else self.row(index)

    def _statistics(self) -> tuple[np.ndarray, np.ndarray]:
        channel = (-1, *(1,) * (len(self.shape) - 1))
        if self._facts.mean is not None and self._facts.deviation is not None:
            return self._facts.mean.reshape(channel), self._facts.deviation.reshape(channel)
        if self._samples is not None and self.dtype.kind == "f" and self.shape:
            measured = np.asarray(self._samples[:N_SAMPLES_MEASURED], dtype=np.float64)
            axes = (0, *range(2, measured.ndim))
            return measured.mean(axes).reshape(channel), measured.std(axes).reshape(channel)
        return np.zeros(()), np.ones(())

    def _border_rows(self) -> list[np.ndarray]:
        constants = [np.zeros(()), self.mean + self.deviation, self.mean - self.deviation]
        rows = [np.broadcast_to(value, self.shape) for value in constants]
        if len(self.shape) >= 2:  # channels and space
            first, last = (0,) * (len(self.shape) - 1), tuple(size - 1 for size in self.shape[1:])
            middle = tuple(size // 2 for size in self.shape[1:])
            edges = [
                (*middle[:axis], end[axis], *middle[axis + 1 :]) for axis in range(len(middle)) for end in (first, last)
            ]
            rows += [self._bright([first]), self._bright([last]), self._bright(edges)]
        return [row.astype(self.dtype) for row in rows]

    def _bright(self, pixels: Sequence[tuple[int, ...]]) -> np.ndarray:
        row = np.zeros(self.shape)
        level = np.broadcast_to(self.mean + BRIGHT * self.deviation, self.shape)
        for pixel in pixels:
            where: tuple[Any, ...] = (slice(None), *pixel)
            row[where] = level[where]
        return row


def _row_shape(spec: InputSpec) -> tuple[int, ...]:
    try:
        return spec.with_batch(1)[1:]
    except ValueError as error:
        raise InputRefused(
            "the sizes of an input are not known",
            where=f"input {spec.name}",
            found=str(spec.shape),
            remedy="state them with --input-shape",
        ) from error


def _dtype(spec: InputSpec) -> np.dtype[Any]:
    dtype = np.dtype(spec.dtype)  # onnx has registered bfloat16 with NumPy, through ml_dtypes, as kind "V"
    if dtype.kind not in "fiub":
        raise InputRefused(
            "no inputs can be made up", where=f"input {spec.name}", found=spec.dtype, expected="numbers or booleans"
        )
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
            expected=f"{spec.dtype} (rows, {', '.join(map(str, shape))})",
            remedy="store at least one row as the network reads it",
        )
    return rows
