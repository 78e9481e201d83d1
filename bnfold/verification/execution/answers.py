"""What the source has answered, kept until the file is asked the same: in memory while it is little, else on disk.

The source and the file do not run side by side, so that their parameters are never in memory together.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Answer", "Answers", "Kind", "is_finite"]

IN_MEMORY = 1 << 24  # bytes

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Kind:
    """What an output of the source is, apart from its values."""

    dtype: np.dtype
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Answer:
    """The source on one feed, by name of output: the float64 values, and the kind in the source's own precision.

    `agreed` masks the whole numbers and booleans that every execution of the source gives alike; such outputs only.
    """

    exact: Mapping[str, np.ndarray]
    kinds: Mapping[str, Kind]
    agreed: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, exact: Mapping[str, np.ndarray], executions: Sequence[Mapping[str, np.ndarray]]) -> Self:
        """The answer of a source by its float64 values and its executions, of which the last one gives the kinds."""
        agreed = {
            name: np.logical_and.reduce([execution[name] == values for execution in executions])
            for name, values in exact.items()
            if values.dtype.kind in "iub"
        }
        return cls(exact, {name: Kind(array.dtype, array.shape) for name, array in executions[-1].items()}, agreed)

    def agreed_values(self, name: str, values: np.ndarray) -> np.ndarray:
        """The values of an output that are compared: all of floating point, flat where whole numbers are left out."""
        return values[self.agreed[name]] if name in self.agreed else values


class Answers:
    """Answers in the order of their feeds; a context, behind which they are gone."""

    def __init__(self) -> None:
        self._store = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - see close
        self._kept: list[tuple[int, Mapping[str, Kind], tuple[str, ...], tuple[str, ...]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let them go."""
        self._store.close()

    def add(self, answer: Answer) -> None:
        """Keep an answer behind the others."""
        start = self._store.seek(0, 2)
        for arrays in (answer.exact, answer.agreed):
            for array in arrays.values():
                np.lib.format.write_array(self._store, array, allow_pickle=False)
        self._kept.append((start, answer.kinds, tuple(answer.exact), tuple(answer.agreed)))

    def __iter__(self) -> Iterator[Answer]:
        for start, kinds, exact, agreed in self._kept:
            self._store.seek(start)
            yield Answer(self._read(exact), kinds, self._read(agreed))

    def _read(self, names: Sequence[str]) -> Arrays:
        return {name: np.lib.format.read_array(self._store, allow_pickle=False) for name in names}


def is_finite(array: np.ndarray) -> bool:
    """Whether an array holds neither NaN nor infinity."""
    return array.dtype.kind in "iub" or bool(np.isfinite(array).all())
