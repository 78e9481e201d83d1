"""The report of an earlier run on this machine, checked before anything is measured: what gates are held to."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["judged_by", "read_baseline"]

SCHEMA = "bnfold.bench/1"
_REMEDY = "write it again with bench --json FILE"


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
            "the baseline is not a report of bnfold bench with runs", where=str(path),
            expected=f"schema {SCHEMA}", remedy="write one with bench --json FILE",
        )  # fmt: skip
    for number, run in enumerate(runs):
        _check_run(run, f"{path}, run {number}")
    _check_ratios(baseline.get("ratios", []), path)
    if not isinstance(baseline.get("environment"), dict):
        raise InputRefused("the baseline does not say where it was measured", where=str(path), remedy=_REMEDY)
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
    key = judged_by(run) if isinstance(run, dict) else "median_ms"
    if not isinstance(run, dict) or not _is_positive(run.get(key)):
        raise InputRefused(
            f"the baseline is damaged: {key} is not above 0", where=where,
            found=repr(run.get(key) if isinstance(run, dict) else run), remedy=_REMEDY,
        )  # fmt: skip
    intervals = run.get("intervals", {})
    if isinstance(intervals, dict) and key not in intervals:
        raise InputRefused(
            "the baseline has runs without an interval", where=where, remedy=f"{_REMEDY} and a larger --budget"
        )
    ends = intervals[key] if isinstance(intervals, dict) else intervals
    is_pair = isinstance(ends, list) and len(ends) == 2 and _is_positive(ends[1]) and _is_number(ends[0])
    if not is_pair or not ends[0] <= run[key] <= ends[1]:
        raise InputRefused(
            f"the baseline is damaged: {key} must be an interval of two numbers", where=where, found=repr(ends),
            expected=f"two numbers, {run[key]} between them", remedy=_REMEDY,
        )  # fmt: skip
    shapes = run.get("input_shapes") or {}
    has_shapes = isinstance(shapes, dict) and all(isinstance(shape, list) for shape in shapes.values())
    if not has_shapes or "name" not in run:
        raise InputRefused(
            "the baseline is damaged: a run has no name, or no input shapes", where=where, remedy=_REMEDY
        )


def _check_ratios(ratios: Any, path: Path) -> None:
    """Refuse ratios that cannot be compared with."""
    if not isinstance(ratios, list):
        raise InputRefused("the baseline is damaged: its ratios are not a list", where=str(path), remedy=_REMEDY)
    for number, ratio in enumerate(ratios):
        ends: list[Any] = [ratio.get(key) for key in ("low", "ratio", "high")] if isinstance(ratio, dict) else []
        shapes = (ratio.get("input_shapes") or {}) if ends else {}
        is_whole = bool(ends) and all(map(_is_positive, ends)) and ends == sorted(ends) and {"a", "b"} <= ratio.keys()
        if not is_whole or not isinstance(shapes, dict) or not all(isinstance(own, list) for own in shapes.values()):
            raise InputRefused(
                "the baseline is damaged: a ratio does not lie in its interval, or does not say of which files it is",
                where=f"{path}, ratio {number}", found=repr(ends), remedy=_REMEDY,
                expected="low, ratio and high, above 0, in that order",
            )  # fmt: skip


def judged_by(run: Mapping[str, Any]) -> str:
    """What a run is judged by: the time of one request alone; under load, how much was served."""
    return "median_ms" if run.get("mode", "latency") == "latency" else "images_per_s"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0
