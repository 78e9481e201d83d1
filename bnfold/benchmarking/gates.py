"""Gates for pipelines: they decide on the interval of a ratio, not on its point, and say where the machine was noisy.

Noise widens the interval; one that still lies beyond the limit as a whole is a failure on any machine. A file is not
slower than itself: two measurements of the same bytes never fail.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bnfold.benchmarking.baselines import judged_by, read_baseline
from bnfold.benchmarking.statistics import NO_WINNER
from bnfold.benchmarking.yardsticks import Spread, cell_key, run_key, same_file, times_over_yardstick
from bnfold.errors import InputRefused
from bnfold.records import BenchGate, BenchReport, GateVerdict
from bnfold.records.grid import AXES, DEFAULTS, differing, setting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnfold.records import BenchRatio

__all__ = ["against_baseline", "against_name", "read_baseline"]

Facts = dict[str, Any]
SHAPES = "input_shapes"  # the axis that has words of its own


def against_baseline(report: BenchReport, baseline: Mapping[str, Any], limit: float, where: str) -> list[BenchGate]:
    """A gate for each run; the ratio is time(now) / time(then), of a request.

    Where another file was measured beside it both times, the plain export most often, the ratio is that of the two
    ratios to it; see `yardsticks`. That file has no limit of its own, unless it is still the same. Under load the time
    of a request is what one costs, 1 / images_per_s, as in the ratios of one report.

    Args:
        report: of today.
        baseline: from `read_baseline`.
        limit: 0.03 lets a file be 3 % slower.
        where: the baseline's file, for errors.

    Raises:
        InputRefused: no run of today is in the baseline.
    """
    earlier = {run_key(run): run for run in baseline["runs"]}
    runs, ratios = [vars(run) for run in report.runs], [vars(ratio) for ratio in report.ratios]
    if runs and not any(run_key(run) in earlier for run in runs):
        raise InputRefused(
            "no run of today is in the baseline", where=where,
            found=_runs_in_words(baseline["runs"]), expected=_runs_in_words(runs),
            remedy="measure files of the same names, at the same batch sizes and threads",
        )  # fmt: skip
    noisy_then = baseline["environment"].get("noise") == "noisy"
    noise = "the baseline was measured on a noisy machine" if noisy_then else _noise(report)
    by_yardstick = times_over_yardstick(runs, ratios, baseline["runs"], baseline.get("ratios", []))
    gates = []
    for run in runs:
        then, name = earlier.get(run_key(run)), f"{run['name']} / baseline ({_cell(run, runs)})"
        yardstick, found = by_yardstick.get(cell_key(run), ("", {}))
        if then is not None and run["name"] in found:
            note = "; ".join(filter(None, (f"both over the time of {yardstick}", noise)))
            gate = _gate(name, found[run["name"]], limit, note)
        elif then is not None and run["name"] == yardstick and not same_file(run, then):
            gate = _undecided(name, limit, "the other files are compared by it")
        else:
            gate = _apart(name, run, then, limit, noise)
        gates.append(gate if then is None else _unless_same(gate, run, then))
    return gates


def _apart(name: str, run: Facts, then: Facts | None, limit: float, noise: str | None) -> BenchGate:
    """A run against its own run of then, as fast as the machine was."""
    key = judged_by(run)
    if then is None:
        return _undecided(name, limit, "the baseline has no such run")
    if not run[key]:
        return _gate(name, Spread(math.inf, math.inf, math.inf), limit, "no rate keeps the limit")
    if key not in run["intervals"]:
        return _undecided(name, limit, "too few runs for an interval")
    found = Spread(run[key], *run["intervals"][key]).over(Spread(then[key], *then["intervals"][key]))
    return _gate(name, found.inverse() if key == "images_per_s" else found, limit, noise)  # more is better


def _unless_same(gate: BenchGate, one: Facts, other: Facts) -> BenchGate:
    """The gate, passed where both runs are of one file: what differs is the machine."""
    if gate.verdict != "failed" or not same_file(one, other):
        return gate
    return replace(gate, verdict="passed", note="; ".join(filter(None, ("it is the same file", gate.note))))


def _cell(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """Where in the grid: what every name of a gate tells, and the axes besides on which the rows differ."""
    words = setting(row)
    always = {axis: words[axis] for axis in ("threads", "opt_level", "provider")}
    return ", ".join([f"batch {row['batch']}", *{**always, **differing(row, rows)}.values()])


def against_name(report: BenchReport, name: str, limit: float) -> list[BenchGate]:
    """A gate for the first file and the named one in every cell of the grid, undecided where there is no ratio."""
    rows, noise = [vars(ratio) for ratio in report.ratios], _noise(report)
    files = {run.name: vars(run) for run in report.runs}
    gates = [
        _unless_same(
            _ratio_gate(ratio, _cell(vars(ratio), rows), limit, noise), files.get(ratio.a, {}), files.get(name, {})
        )
        for ratio in report.ratios
        if ratio.b == name
    ]
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
    return _gate(f"{ratio.a} / {ratio.b} ({cell})", Spread(ratio.ratio, ratio.low, ratio.high), limit, note)


def _gate(name: str, found: Spread, limit: float, note: str | None) -> BenchGate:
    verdict: GateVerdict = "failed" if found.low > 1 + limit else "passed"
    return BenchGate(name, 1 + limit, found.middle, found.low, found.high, verdict, note)


def _noise(report: BenchReport) -> str | None:
    return "noisy machine" if report.environment.get("noise") == "noisy" else None


def _runs_in_words(runs: Sequence[Mapping[str, Any]]) -> str:
    """Each run by its name, what else is part of its key where it is not the default, and its shapes."""
    said = []
    for run in runs:
        shapes = " and ".join("x".join(map(str, shape)) for shape in (run.get(SHAPES) or {}).values())
        others = [f"{key} {run[key]}" for key in AXES if key in run and key != SHAPES and run[key] != DEFAULTS[key]]
        said.append(f"{run['name']} ({', '.join([*others, *([shapes] if shapes else [])])})")
    return ", ".join(dict.fromkeys(said))
