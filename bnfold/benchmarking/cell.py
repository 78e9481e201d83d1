"""One cell of the grid: cold starts, each in its own process; then the interleaved runs in this one."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bnfold.benchmarking.cold_start import ColdStart, measure_cold_start
from bnfold.benchmarking.file_times import FileTimes, Timings
from bnfold.benchmarking.inputs import random_inputs
from bnfold.benchmarking.noise import CpuMeter, Noise
from bnfold.benchmarking.open_loop import time_open_loop
from bnfold.benchmarking.profile import profile_file
from bnfold.benchmarking.schedule import time_files
from bnfold.benchmarking.statistics import dispersion
from bnfold.benchmarking.subjects import optimized_offline
from bnfold.benchmarking.workers import Workers
from bnfold.runtime import available_threads, provider_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bnfold.benchmarking.axes import Cell
    from bnfold.benchmarking.subjects import Subject
    from bnfold.benchmarking.timing import Runner
    from bnfold.records import BenchProfile, InputSpec

__all__ = ["CellResult", "measure_cell"]

COLD_SHARE = 0.25  # of a cell's budget; one start of each file there is in any case


@dataclass
class CellResult:
    """What was measured in a cell so far; filled while it runs, so that an interrupt loses nothing.

    `cold` and `search_ms`, the time of the provider's search for algorithms (cuDNN's), are by the subjects' names.
    `profiles` is None where none are wanted.
    """

    cell: Cell
    shapes: Mapping[str, tuple[int, ...]]
    names: Sequence[str]
    cold: dict[str, ColdStart] = field(default_factory=dict)
    search_ms: dict[str, float] = field(default_factory=dict)
    noise: Noise = field(default_factory=Noise)
    profiles: list[BenchProfile] | None = None
    timings: Timings = field(init=False)

    def __post_init__(self) -> None:
        self.timings = Timings(len(self.names))

    @property
    def times(self) -> list[FileTimes] | None:
        """The times of each subject, None where not even one round is complete."""
        return self.timings.times()


def measure_cell(
    result: CellResult,
    subjects: Sequence[Subject],
    specs: Sequence[InputSpec],
    *,
    cold_starts: bool = True,
    budget_s: float,
    seed: int,
    progress: Callable[[float], None],
) -> None:
    """Measure all subjects in one cell, into `result`.

    Args:
        result: says which cell, and takes what is measured.
        subjects: in the order of the names in `result`.
        specs: the inputs.
        cold_starts: load and run every file alone first, unless with a CUDA graph, whose first run captures it.
        budget_s: seconds for all of it, about.
        seed: of the input values and of the arrivals.
        progress: told the share that is done, 0 to 1.
    """
    cell = result.cell
    deadline = time.monotonic() + budget_s
    inputs = random_inputs(specs, result.shapes, seed)
    with tempfile.TemporaryDirectory(prefix="bnfold-") as folder:
        sources = [subject.file for subject in subjects]
        if cell.optimize == "offline":
            subjects = [optimized_offline(subject, cell, Path(folder)) for subject in subjects]
        if cold_starts and not cell.cuda_graph:
            _start_cold(result, subjects, specs, budget_s * COLD_SHARE, seed)
        openers = [partial(_opened, subject, cell, inputs) for subject in subjects]
        meter = CpuMeter.now()
        try:
            left_s = max(0.0, deadline - time.monotonic())
            if cell.load.mode == "open-loop":
                time_open_loop(openers, left_s, progress, result.timings, load=cell.load, seed=seed)
            else:
                time_files(openers, left_s, progress, result.timings)
        finally:
            finite = [own.rounds for own in result.times or [] if np.isfinite(own.rounds).all()]
            busy = min(cell.threads * cell.load.concurrency, max(cell.threads, available_threads()))
            result.noise = meter.noise_since([dispersion(rounds) for rounds in finite], busy)
        if result.profiles is not None:
            for subject, source in zip(subjects, sources, strict=True):
                if subject.file is not None and source is not None:
                    result.profiles.append(
                        profile_file(subject.name, subject.file, source, cell, inputs, settings=subject.settings)
                    )


def _opened(subject: Subject, cell: Cell, inputs: Mapping[str, np.ndarray]) -> Runner:
    runner = subject.opener(cell, inputs)
    return runner if cell.load.mode == "latency" else Workers(runner, cell.load.concurrency)


def _start_cold(
    result: CellResult, subjects: Sequence[Subject], specs: Sequence[InputSpec], budget_s: float, seed: int
) -> None:
    """Load and run every file alone, and once more without the provider's search, whose time is the difference."""
    cell = result.cell
    unsearched = provider_spec(cell.provider).unsearched_options
    files = [(subject, subject.file) for subject in subjects if subject.file is not None]
    for subject, file in files:
        name, own = subject.name, subject.settings
        start = partial(measure_cold_start, file, specs, result.shapes, cell, seed=seed, settings=own)
        result.cold[name] = start(limit_s=budget_s / len(files))
        if unsearched is not None:
            without_ms = start(limit_s=0.0, provider_options=unsearched).first_ms
            result.search_ms[name] = max(0.0, result.cold[name].first_ms - without_ms)
