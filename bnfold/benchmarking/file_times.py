"""Times as they come in, load by load and round by round, and what there is of each file in the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["FileTimes", "Timings"]


@dataclass(frozen=True)
class FileTimes:
    """The times of one file in milliseconds.

    `rounds`: what each round took for one request, shape (loads, rounds). `runs`: every counted run in order, shape
    (loads, runs). `end_to_end`: runs from NumPy to NumPy, if they were timed.
    """

    rounds: NDArray[np.float64]
    runs: NDArray[np.float64]
    end_to_end: NDArray[np.float64] | None = None


class Timings:
    """Times as they come in, so that an interrupted measurement keeps what it has.

    Args:
        n_files: how many files take turns.
    """

    def __init__(self, n_files: int) -> None:
        self._n_files = n_files
        self._loads: list[list[list[tuple[float, list[float]]]]] = []
        self._end_to_end: list[list[float]] = [[] for _ in range(n_files)]

    @property
    def n_loads(self) -> int:
        """How many loads have begun."""
        return len(self._loads)

    def begin_load(self) -> None:
        """The files were opened afresh."""
        self._loads.append([])

    def add_round(self, blocks: Sequence[tuple[float, list[float]]]) -> None:
        """A round of the present load: of each file the time of a request, and of every run."""
        self._loads[-1].append(list(blocks))

    def add_end_to_end(self, index: int, times_ms: Sequence[float]) -> None:
        """Runs of a file from NumPy to NumPy."""
        self._end_to_end[index] += times_ms

    def times(self) -> list[FileTimes] | None:
        """The times of each file in the complete loads; in the rounds of the first where none is complete, else None.

        A load is complete when it has as many rounds as the first.
        """
        loads = [load for load in self._loads if load and len(load) == len(self._loads[0])]
        if not loads:
            return None
        return [self._times(index, loads) for index in range(self._n_files)]

    def _times(self, index: int, loads: Sequence[list[list[tuple[float, list[float]]]]]) -> FileTimes:
        runs = [[run for turn in load for run in turn[index][1]] for load in loads]
        least = min(map(len, runs))  # a search that finds no rate ends early
        return FileTimes(
            np.array([[turn[index][0] for turn in load] for load in loads]),
            np.array([own[:least] for own in runs]),
            np.array(self._end_to_end[index]) if self._end_to_end[index] else None,
        )
