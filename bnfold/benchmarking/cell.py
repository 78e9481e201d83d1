"""One cell of the grid: cold starts, each in its own process; then the interleaved runs in this one."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bnfold.benchmarking.cold_start import ColdStart, measure_cold_start
from bnfold.benchmarking.inputs import random_inputs
from bnfold.benchmarking.noise import CpuMeter, Noise
from bnfold.benchmarking.quantiles import quantile
from bnfold.benchmarking.schedule import MIN_LOADS, FileTimes, Timings, time_files
from bnfold.benchmarking.statistics import compare, dispersion
from bnfold.records import BenchRatio, BenchRun
from bnfold.runtime import PROVIDERS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bnfold.benchmarking.axes import Cell
    from bnfold.benchmarking.subjects import Subject
    from bnfold.records import InputSpec

__all__ = ["CellResult", "measure_cell"]

COLD_SHARE = 0.25  # of a cell's budget; one start of each file there is in any case
PERCENTILES = {"median_ms": 0.50, "p90_ms": 0.90, "p95_ms": 0.95, "p99_ms": 0.99}


@dataclass
class CellResult:
    """What was measured in a cell so far; filled while it runs, so that an interrupt loses nothing."""

    cell: Cell
    shapes: Mapping[str, tuple[int, ...]]
    names: Sequence[str]
    cold: dict[str, ColdStart] = field(default_factory=dict)
    noise: Noise = field(default_factory=Noise)
    timings: Timings = field(init=False)

    def __post_init__(self) -> None:
        self.timings = Timings(len(self.names))

    @property
    def times(self) -> list[FileTimes] | None:
        """The times of each subject, None where not even one round is complete."""
        return self.timings.times()

    def runs(self, subjects: Sequence[Subject]) -> list[BenchRun]:
        """One record per subject."""
        return [self._run(subject, own) for subject, own in zip(subjects, self.times or (), strict=True)]

    def _run(self, subject: Subject, times: FileTimes) -> BenchRun:
        cold = self.cold.get(subject.name)
        found = {name: quantile(times.runs, p) for name, p in PERCENTILES.items()}
        points = {name: None if value is None else value[0] for name, value in found.items()}
        median_ms = float(np.median(times.runs))
        return BenchRun(
            name=subject.name,
            path=subject.path,
            provider=PROVIDERS[self.cell.provider],
            batch=self.cell.batch,
            n=int(times.runs.size),
            load_ms=None if cold is None else cold.load_ms,
            first_ms=None if cold is None else cold.first_ms,
            median_ms=median_ms,
            p90_ms=points["p90_ms"],
            p95_ms=points["p95_ms"],
            p99_ms=points["p99_ms"],
            images_per_s=self.cell.batch / median_ms * 1e3,
            peak_mb=None if cold is None else cold.peak_mb,
            threads=self.cell.threads,
            opt_level=self.cell.opt_level,
            input_shapes=self.shapes,
            intervals={name: (value[1], value[2]) for name, value in found.items() if value is not None},
            n_starts=0 if cold is None else cold.n_starts,
            engine=subject.engine,
        )

    def ratios(self, seed: int) -> list[BenchRatio]:
        """time(first) / time(other) for every other subject."""
        times = self.times or []
        few = len(times) > 0 and len(times[0].rounds) < MIN_LOADS
        note = f"{len(times[0].rounds)} of at least {MIN_LOADS} loads were measured" if few else self.noise.reason()
        return [
            compare(
                BenchRatio(
                    a=self.names[0], b=name, batch=self.cell.batch, ratio=1.0, low=1.0, high=1.0, verdict="tie",
                    provider=PROVIDERS[self.cell.provider], threads=self.cell.threads,
                    opt_level=self.cell.opt_level, input_shapes=self.shapes,
                ),
                times[0].rounds / own.rounds, note=note, seed=seed,
            )
            for name, own in zip(self.names[1:], times[1:], strict=True)
        ]  # fmt: skip


def measure_cell(
    result: CellResult,
    subjects: Sequence[Subject],
    specs: Sequence[InputSpec],
    *,
    budget_s: float,
    seed: int,
    progress: Callable[[float], None],
) -> None:
    """Measure all subjects in one cell, into `result`.

    Args:
        result: says which cell, and takes what is measured.
        subjects: in the order of the names in `result`.
        specs: the inputs.
        budget_s: seconds for all of it, about.
        seed: of the input values.
        progress: told the share that is done, 0 to 1.
    """
    cell = result.cell
    start = time.monotonic()
    files = [(subject.name, subject.file) for subject in subjects if subject.file is not None]
    for name, file in files:
        result.cold[name] = measure_cold_start(
            file, specs, result.shapes, provider=cell.provider, threads=cell.threads, seed=seed,
            opt_level=cell.opt_level, limit_s=budget_s * COLD_SHARE / len(files),
        )  # fmt: skip
    inputs = random_inputs(specs, result.shapes, seed)
    openers = [partial(subject.opener, cell, inputs) for subject in subjects]
    meter = CpuMeter.now()
    try:
        time_files(openers, max(0.0, budget_s - (time.monotonic() - start)), progress, result.timings)
    finally:
        times = result.times or []
        result.noise = meter.noise_since([dispersion(own.rounds) for own in times], cell.threads)
