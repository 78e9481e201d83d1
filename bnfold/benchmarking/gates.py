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
    """Refuse a run of a baseline whose times cannot be compared with."""
    if not isinstance(run, dict) or not _is_time(run.get("median_ms")):
        raise InputRefused(
            "the baseline is damaged: median_ms is no time", where=where,
            found=repr(run.get("median_ms") if isinstance(run, dict) else run), expected="milliseconds above 0",
            remedy=ANEW,
        )  # fmt: skip
    intervals = run.get("intervals", {})
    if isinstance(intervals, dict) and "median_ms" not in intervals:
        raise InputRefused(
            "the baseline has runs without an interval", where=where, remedy=f"{ANEW} and a larger --budget"
        )
    ends = intervals["median_ms"] if isinstance(intervals, dict) else intervals
    is_pair = isinstance(ends, list) and len(ends) == 2 and _is_time(ends[1]) and _is_number(ends[0])
    if not is_pair or not ends[0] <= run["median_ms"] <= ends[1]:
        raise InputRefused(
            "the baseline is damaged: the interval of median_ms is none", where=where, found=repr(ends),
            expected=f"two times, {run['median_ms']} between them", remedy=ANEW,
        )  # fmt: skip
    shapes = run.get("input_shapes") or {}
    has_shapes = isinstance(shapes, dict) and all(isinstance(shape, list) for shape in shapes.values())
    if not has_shapes or "name" not in run:
        raise InputRefused("the baseline is damaged: a run has no name, or no input shapes", where=where, remedy=ANEW)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_time(value: Any) -> bool:
    return _is_number(value) and value > 0


def against_baseline(report: BenchReport, baseline: Mapping[str, Any], limit: float, where: str) -> list[BenchGate]:
    """A gate for each run that the baseline has, too; the ratio is time(now) / time(then).

    The two medians were measured apart, so that their relative errors add like independent ones: with the logarithm's
    half widths h, `log(high / ratio) = sqrt(h_now^2 + h_then^2)`, for each side.

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
    pairs = [(run, earlier[_key(run.__dict__)]) for run in report.runs if _key(run.__dict__) in earlier]
    if report.runs and not pairs:
        raise InputRefused(
            "no run of today is in the baseline", where=where,
            found=_runs_in_words(baseline["runs"]), expected=_runs_in_words([run.__dict__ for run in report.runs]),
            remedy="measure files of the same names, at the same batch sizes and threads",
        )  # fmt: skip
    noise = "the baseline was measured on a noisy machine" if noisy_then else _noise(report)
    return [_baseline_gate(run, then, limit, noise) for run, then in pairs]


def _baseline_gate(run: BenchRun, then: Mapping[str, Any], limit: float, noise: str | None) -> BenchGate:
    ratio = run.median_ms / then["median_ms"]
    now_low, now_high = run.intervals.get("median_ms", (math.nan, math.nan))
    then_low, then_high = then["intervals"]["median_ms"]
    up = math.hypot(_log_gap(run.median_ms, now_high), _log_gap(then_low, then["median_ms"]))
    down = math.hypot(_log_gap(now_low, run.median_ms), _log_gap(then["median_ms"], then_high))
    cell = f"batch {run.batch}, {run.threads} threads, {run.opt_level}, {run.provider}"
    name = f"{run.name} / baseline ({cell})"
    if math.isnan(now_low):
        return BenchGate(name, 1 + limit, ratio, ratio, ratio, "undecided", "too few runs for an interval")
    return _gate(name, (ratio, ratio * math.exp(-down), ratio * math.exp(up)), limit, noise)


def _log_gap(low: float, high: float) -> float:
    """log(high / low); infinite where nothing bounds the time from below."""
    return math.log(high / low) if low > 0 else math.inf


def against_name(report: BenchReport, name: str, limit: float) -> list[BenchGate]:
    """A gate for each ratio of the first file to the named one, in every cell of the grid."""
    return [_ratio_gate(ratio, limit, _noise(report)) for ratio in report.ratios if ratio.b == name]


def _ratio_gate(ratio: BenchRatio, limit: float, noise: str | None) -> BenchGate:
    cell = f"batch {ratio.batch}, {ratio.threads} threads, {ratio.opt_level}, {ratio.provider}"
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
