"""One file in several sessions: opened to be timed, and started cold side by side."""

from __future__ import annotations

import dataclasses
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.benchmarking.cold_start import measure_cold_start
from bnfold.benchmarking.offline import write_offline
from bnfold.benchmarking.schedule import MIN_LOADS, in_turn
from bnfold.benchmarking.subjects import file_subject
from bnfold.benchmarking.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from bnfold.benchmarking.axes import Cell
    from bnfold.benchmarking.cold_start import ColdStart
    from bnfold.benchmarking.timing import Runner
    from bnfold.records import InputSpec
    from bnfold.records.tuning import SessionSettings

__all__ = ["SessionRuns", "steady_ms", "total_ms"]

MOST_STARTS = 12
STEADY_S = 0.3


@dataclasses.dataclass
class SessionRuns:
    """A file, ready to be opened in any session.

    Attributes:
        file: the file.
        cell: shapes, batch and load; what sessions say themselves takes the place of the rest.
        specs: its inputs, and
        shapes: their shapes by name.
        inputs: values, likewise.
        folder: for files that ONNX Runtime writes.
        seed: of the input values in processes of their own.
    """

    file: Path
    cell: Cell
    specs: Sequence[InputSpec]
    shapes: Mapping[str, tuple[int, ...]]
    inputs: Mapping[str, Any]
    folder: Path
    seed: int
    _written: dict[tuple[Any, ...], Path] = dataclasses.field(default_factory=dict)

    def opened(self, settings: SessionSettings) -> Runner:
        """The file in a session, with its inputs bound.

        Raises:
            EnvironmentNotReady, InputRefused: see `bnfold.benchmarking.timing.BoundFile`.
        """
        file, cell = self._loaded(settings)
        runner = file_subject("", file, settings).opener(cell, self.inputs)
        return runner if cell.load.mode == "latency" else Workers(runner, cell.load.concurrency)

    def cold_starts(self, sessions: Sequence[SessionSettings], budget_s: float) -> list[list[ColdStart]]:
        """Starts of each session in processes of their own, in turns: as many as the budget allows, at least six.

        Each process goes on in the steady state for a moment.
        """
        starts: list[list[ColdStart]] = [[] for _ in sessions]
        jobs = [self._loaded(settings) for settings in sessions]
        deadline, done = time.monotonic() + budget_s, 0
        while done < MIN_LOADS or (done < MOST_STARTS and time.monotonic() < deadline):
            for index in in_turn(range(len(sessions)), done):
                (file, cell), settings = jobs[index], sessions[index]
                start = partial(measure_cold_start, file, self.specs, self.shapes, cell, seed=self.seed, limit_s=0.0)
                starts[index].append(start(settings=settings, steady_s=STEADY_S))
            done += 1
        return starts

    def _loaded(self, settings: SessionSettings) -> tuple[Path, Cell]:
        """The file that a session loads, and the cell of the grid that it is."""
        cell = dataclasses.replace(
            self.cell, provider=settings.provider, threads=settings.threads or self.cell.threads,
            opt_level=settings.opt_level, optimize=settings.optimize, cuda_graph=settings.cuda_graph,
        )  # fmt: skip
        return (self.file if settings.optimize == "online" else self._offline(settings)), cell

    def _offline(self, settings: SessionSettings) -> Path:
        key = (settings.provider, settings.opt_level, settings.disabled_optimizers)
        if key not in self._written:
            target = self.folder / f"{len(self._written)}.onnx"
            write_offline(self.file, target, settings.opt_level, settings.provider, settings)
            self._written[key] = target
        return self._written[key]


def total_ms(starts: Sequence[ColdStart]) -> NDArray[np.float64]:
    """Session creation and first run of each start in milliseconds, shape (starts, 1): each is one on its own."""
    return np.array([[start.load_ms + start.first_ms] for start in starts])


def steady_ms(starts: Sequence[ColdStart]) -> NDArray[np.float64]:
    """A run of the steady state of each start in milliseconds, shape (starts, 1)."""
    return np.array([[start.steady_ms] for start in starts], np.float64)
