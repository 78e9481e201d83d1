"""Gates for pipelines: they decide on the interval of a ratio, not on its point, and say where the machine was noisy.

Noise widens the interval; one that still lies beyond the limit as a whole is a failure on any machine.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any

from bnfold.benchmarking.statistics import NO_WINNER
from bnfold.errors import InputRefused
from bnfold.records import BenchGate, BenchReport, BenchRun, GateVerdict
from bnfold.records.grid import differing, setting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from bnfold.records import BenchRatio

__all__ = ["against_baseline", "against_name", "read_baseline"]

SCHEMA = "bnfold.bench/1"
KEY = ("name", "provider", "batch", "threads", "opt_level", "optimize", "cuda_graph", "mode", "concurrency")
ANEW = "write it anew with bench --json FILE"
DEFAULTS = {field.name: field.default for field in dataclasses.fields(BenchRun)}  # of fields an older file may lack


def read_baseline(path: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The report of an earlier run, of the same machine.

    Args:
        path: what `--json` wrote.
        facts: the environment of today.

    Raises:
        InputRefused: no report of `bnfold bench`, one without intervals, or one of another CPU or GPU.
    """
    try:
        baseline = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputRefused(
            "cannot read the baseline", where=str(path), found=str(error), remedy="write one with bench --json FILE"
        ) from error
    runs = baseline.get("runs") if isinstance(baseline, dict) else None
    if not isinstance(runs, list) or not runs or baseline.get("schema") != SCHEMA:
        raise InputRefused(
            "the baseline is no report of bnfold bench with runs", where=str(path),
            expected=f"schema {SCHEMA}", remedy="write one with bench --json FILE",
        )  # fmt: skip
    for number, run in enumerate(runs):
        _check_run(run, f"{path}, run {number}")
    if not isinstance(baseline.get("environment"), dict):
        raise InputRefused("the baseline does not say where it was measured", where=str(path), remedy=ANEW)
    for key in ("cpu", "gpu"):
        then, now = baseline["environment"].get(key), facts.get(key)
        if then != now:
            raise InputRefused(
                "the baseline was measured on another machine", where=str(path), found=str(then), expected=str(now),
                remedy="measure a baseline on this machine, or compare with a file of today (--fail-if-slower-than)",
            )  # fmt: skip
    return dict(baseline)


def _check_run(run: Any, where: str) -> None:
    """Refuse a run of a baseline that cannot be compared with."""
    key = _measure(run) if isinstance(run, dict) else "median_ms"
    if not isinstance(run, dict) or not _is_positive(run.get(key)):
        raise InputRefused(
            f"the baseline is damaged: {key} is not above 0", where=where,
            found=repr(run.get(key) if isinstance(run, dict) else run), remedy=ANEW,
        )  # fmt: skip
    intervals = run.get("intervals", {})
    if isinstance(intervals, dict) and key not in intervals:
        raise InputRefused(
            "the baseline has runs without an interval", where=where, remedy=f"{ANEW} and a larger --budget"
        )
    ends = intervals[key] if isinstance(intervals, dict) else intervals
    is_pair = isinstance(ends, list) and len(ends) == 2 and _is_positive(ends[1]) and _is_number(ends[0])
    if not is_pair or not ends[0] <= run[key] <= ends[1]:
        raise InputRefused(
            f"the baseline is damaged: the interval of {key} is none", where=where, found=repr(ends),
            expected=f"two numbers, {run[key]} between them", remedy=ANEW,
        )  # fmt: skip
    shapes = run.get("input_shapes") or {}
    has_shapes = isinstance(shapes, dict) and all(isinstance(shape, list) for shape in shapes.values())
    if not has_shapes or "name" not in run:
        raise InputRefused("the baseline is damaged: a run has no name, or no input shapes", where=where, remedy=ANEW)


def _measure(run: Mapping[str, Any]) -> str:
    """What a run is judged by: the time of one request alone; under load, how much was served."""
    return "median_ms" if run.get("mode", "latency") == "latency" else "images_per_s"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0


def against_baseline(report: BenchReport, baseline: Mapping[str, Any], limit: float, where: str) -> list[BenchGate]:
    """A gate for each run; the ratio is time(now) / time(then), of a request.

    Under load the time of a request is what one costs, 1 / images_per_s, as in the ratios of one report. The two were
    measured apart, so that their relative errors add like independent ones: with the logarithm's half widths h,
    `log(high / ratio) = sqrt(h_now^2 + h_then^2)`, for each side.

    Args:
        report: of today.
        baseline: from `read_baseline`.
        limit: 0.03 lets a file be 3 % slower.
        where: the baseline's file, for errors.

    Raises:
        InputRefused: no run of today is in the baseline.
    """
    earlier = {_key(run): run for run in baseline["runs"]}
    noisy_then = baseline["environment"].get("noise") == "noisy"
    runs = [vars(run) for run in report.runs]
    if runs and not any(_key(run) in earlier for run in runs):
        raise InputRefused(
            "no run of today is in the baseline", where=where,
            found=_runs_in_words(baseline["runs"]), expected=_runs_in_words(runs),
            remedy="measure files of the same names, at the same batch sizes and threads",
        )  # fmt: skip
    noise = "the baseline was measured on a noisy machine" if noisy_then else _noise(report)
    names = [f"{run['name']} / baseline ({_cell(run, runs)})" for run in runs]
    return [
        _baseline_gate(name, run, earlier.get(_key(run)), limit, noise)
        for name, run in zip(names, runs, strict=True)
    ]  # fmt: skip


def _baseline_gate(
    name: str, run: Mapping[str, Any], then: Mapping[str, Any] | None, limit: float, noise: str | None
) -> BenchGate:
    key = _measure(run)
    if then is None:
        return _undecided(name, limit, "the baseline has no such run")
    if not run[key]:
        return _gate(name, (math.inf,) * 3, limit, "no rate keeps the limit")
    if key not in run["intervals"]:
        return _undecided(name, limit, "too few runs for an interval")
    now_low, now_high = run["intervals"][key]
    then_low, then_high = then["intervals"][key]
    up = math.hypot(_log_gap(run[key], now_high), _log_gap(then_low, then[key]))
    down = math.hypot(_log_gap(now_low, run[key]), _log_gap(then[key], then_high))
    ratio = run[key] / then[key]
    low, high = ratio * math.exp(-down), ratio * math.exp(up)
    if key == "images_per_s":  # more is better
        ratio, low, high = 1 / ratio, 1 / high, 1 / low if low > 0 else math.inf
    return _gate(name, (ratio, low, high), limit, noise)


def _cell(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Where in the grid: what every name of a gate tells, and the axes besides on which the rows differ."""
    words = setting(row)
    always = {axis: words[axis] for axis in ("threads", "opt_level", "provider")}
    return ", ".join([f"batch {row['batch']}", *{**always, **differing(row, rows)}.values()])


def _log_gap(low: float, high: float) -> float:
    """log(high / low); infinite where nothing bounds the time from below."""
    return math.log(high / low) if low > 0 else math.inf


def against_name(report: BenchReport, name: str, limit: float) -> list[BenchGate]:
    """A gate for the first file and the named one in every cell of the grid, undecided where there is no ratio."""
    rows, noise = [vars(ratio) for ratio in report.ratios], _noise(report)
    gates = [_ratio_gate(ratio, _cell(vars(ratio), rows), limit, noise) for ratio in report.ratios if ratio.b == name]
    compared = {_place(vars(ratio)) for ratio in report.ratios if ratio.b == name}
    runs = [vars(run) for run in report.runs if run.name == name]
    return gates + [
        _undecided(
            f"{report.runs[0].name} / {name} ({_cell(run, runs)})", limit, "too few searches, or none with a rate"
        )
        for run in runs
        if _place(run) not in compared
    ]


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (row["batch"], *setting(row).values())


def _undecided(name: str, limit: float, note: str) -> BenchGate:
    return BenchGate(name, 1 + limit, math.nan, math.nan, math.nan, "undecided", note)


def _ratio_gate(ratio: BenchRatio, cell: str, limit: float, noise: str | None) -> BenchGate:
    note = noise if ratio.note is None else ratio.note.removeprefix(NO_WINNER)
    return _gate(f"{ratio.a} / {ratio.b} ({cell})", (ratio.ratio, ratio.low, ratio.high), limit, note)


def _gate(name: str, found: Sequence[float], limit: float, noise: str | None) -> BenchGate:
    ratio, low, high = found
    verdict: GateVerdict = "failed" if low > 1 + limit else "passed"
    return BenchGate(name=name, limit=1 + limit, ratio=ratio, low=low, high=high, verdict=verdict, note=noise)


def _noise(report: BenchReport) -> str | None:
    return "noisy machine" if report.environment.get("noise") == "noisy" else None


def _runs_in_words(runs: Sequence[Mapping[str, Any]]) -> str:
    """Each run by its name, what else is part of its key where it is not the default, and its shapes."""
    said = []
    for run in runs:
        shapes = " and ".join("x".join(map(str, shape)) for shape in (run.get("input_shapes") or {}).values())
        others = [f"{key} {run[key]}" for key in KEY[1:] if key in run and run[key] != DEFAULTS[key]]
        said.append(f"{run['name']} ({', '.join([*others, *([shapes] if shapes else [])])})")
    return ", ".join(dict.fromkeys(said))


def _key(run: Mapping[str, Any]) -> tuple[str, ...]:
    """What makes two runs the same measurement; the sizes of the inputs are part of it."""
    shapes = {name: list(shape) for name, shape in (run.get("input_shapes") or {}).items()}
    return (*(str(run.get(key, DEFAULTS[key])) for key in KEY), json.dumps(shapes, sort_keys=True))
