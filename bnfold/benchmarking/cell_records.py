"""The records of a cell of the grid: one per subject, and the ratio of the first to each other one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.benchmarking.quantiles import quantile
from bnfold.benchmarking.schedule import MIN_LOADS
from bnfold.benchmarking.statistics import compare
from bnfold.records import BenchRun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnfold.benchmarking.cell import CellResult
    from bnfold.benchmarking.file_times import FileTimes
    from bnfold.benchmarking.subjects import Subject
    from bnfold.records import BenchRatio

__all__ = ["cell_ratios", "cell_runs"]

PERCENTILES = {"median_ms": 0.50, "p90_ms": 0.90, "p95_ms": 0.95, "p99_ms": 0.99}
CONFIRMED = 0.10  # how far the medians of every other search may lie apart


def cell_runs(result: CellResult, subjects: Sequence[Subject]) -> list[BenchRun]:
    """One record per subject."""
    return [_run(result, subject, own) for subject, own in zip(subjects, result.times or (), strict=True)]


def cell_ratios(result: CellResult, seed: int) -> list[BenchRatio]:
    """time(first) / time(other) of a request, for every other subject.

    None where a time is infinite, and none of rates that were searched less than `MIN_LOADS` times.
    """
    times = result.times or []
    few = len(times) > 0 and len(times[0].rounds) < MIN_LOADS
    if few and result.cell.load.mode == "open-loop":
        return []
    note = (
        f"{len(times[0].rounds)} of at least {MIN_LOADS} session restarts were measured"
        if few
        else result.noise.reason()
    )
    pairs = zip(result.names[1:], times[1:], strict=True)
    place = result.cell.place(result.shapes)
    return [
        compare(result.names[0], name, place, times[0].rounds / own.rounds, note=note, seed=seed)
        for name, own in pairs
        if np.isfinite([times[0].rounds, own.rounds]).all()
    ]


def _run(result: CellResult, subject: Subject, times: FileTimes) -> BenchRun:
    cold = result.cold.get(subject.name)
    found = {name: quantile(times.runs, p) for name, p in PERCENTILES.items()}
    points: dict[str, Any] = {name: None if value is None else value[0] for name, value in found.items()}
    median_ms = points["median_ms"] = float(np.median(times.runs))
    request_ms = median_ms if result.cell.load.mode == "latency" else float(np.median(times.rounds))
    rates = _rates(result, times) if result.cell.load.mode == "open-loop" else {}
    intervals = {name: (value[1], value[2]) for name, value in found.items() if value is not None}
    served = None if result.cell.load.mode == "latency" else _interval_per_s(times)
    if served is not None:
        intervals["images_per_s"] = (result.cell.batch * served[0], result.cell.batch * served[1])
    return BenchRun(
        name=subject.name,
        path=subject.path,
        n=int(times.runs.size),
        load_ms=None if cold is None else cold.load_ms,
        first_ms=None if cold is None else cold.first_ms,
        images_per_s=result.cell.batch * rates.get("rate_per_s", 1e3 / request_ms),
        peak_mb=None if cold is None else cold.peak_mb,
        intervals=intervals,
        n_starts=0 if cold is None else cold.n_starts,
        engine=subject.engine,
        sha256=subject.sha256,
        end_to_end_ms=None if times.end_to_end is None else float(np.median(times.end_to_end)),
        cudnn_search_ms=result.search_ms.get(subject.name),
        **points,
        **result.cell.place(result.shapes).fields(),
        **rates,
    )


def _interval_per_s(times: FileTimes) -> tuple[float, float] | None:
    """Low and high end of the requests per second, None where the rounds do not support an interval."""
    found = quantile(times.rounds, 0.5) if np.isfinite(times.rounds).all() else None
    return None if found is None or found[1] <= 0 else (1e3 / found[2], 1e3 / found[1])


def _rates(result: CellResult, times: FileTimes) -> dict[str, Any]:
    """What the searches of the open loop found."""
    rates = 1e3 / times.rounds.ravel()
    middle = float(np.median(rates))
    return {
        "slo_p95_ms": result.cell.load.slo_p95_ms,
        "rate_per_s": middle,
        "rates_per_s": tuple(float(rate) for rate in rates),
        "rate_confirmed": bool(rates.size > 1 and _agree(float(np.median(rates[::2])), float(np.median(rates[1::2])))),
    }


def _agree(one: float, other: float) -> bool:
    return abs(one - other) <= CONFIRMED * max(one, other)
