"""When a folded file counts as not slower than its source: the rule of docs/field.md and scripts/never_slower.py.

The interval of time(folded) / time(source), one thread, must be no wider than `WIDEST`; where it is wider it is
measured again, with twice the time, at most `MOST_AGAIN` times. Its lower end must be at most `LARGEST_LOW`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnfold.benchmarking import Axes, bench_files

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

__all__ = ["LARGEST_LOW", "MOST_AGAIN", "WIDEST", "failure", "measured", "narrow", "shown"]

WIDEST = 0.04
MOST_AGAIN = 3
LARGEST_LOW = 1.02


def narrow(measure: Callable[[int], Mapping[str, Any]]) -> dict[str, Any]:
    """The first interval that is no wider than `WIDEST`, else the narrowest of all that were measured.

    Args:
        measure: the facts `ratio`, `low` and `high` of a measurement; told how often it was measured before.

    Returns:
        The facts, and `n_measured`.
    """
    taken: list[dict[str, Any]] = [dict(measure(0))]
    while _width(taken[-1]) > WIDEST and len(taken) <= MOST_AGAIN:
        taken.append(dict(measure(len(taken))))
    narrowest: dict[str, Any] = min(taken, key=_width)
    return {**narrowest, "n_measured": len(taken)}


def _width(timing: Mapping[str, Any]) -> float:
    return float(timing["high"] - timing["low"])


def measured(
    folded: Path, source: Path, *, shapes: Sequence[tuple[int, ...]] | None = None, budget_s: float
) -> dict[str, Any]:
    """time(folded) / time(source) of two files, measured again where the rule asks for it.

    Args:
        folded: the file that bnfold wrote.
        source: the one that it was made of, or the plain export.
        shapes: of the inputs, where the file leaves sizes open besides the batch; axis 0 of the first is the batch.
        budget_s: seconds of the first measurement.
    """
    batch = shapes[0][0] if shapes else 1

    def measure(n_before: int) -> dict[str, Any]:
        report = bench_files(
            (folded, source),
            Axes(threads=1, batch=(batch,), input_shapes=shapes),
            names=("folded", "source"),
            budget_s=budget_s * 2**n_before,
            cold_starts=False,
            seed=n_before,
        )
        (ratio,) = report.ratios
        facts = {key: report.environment[key] for key in ("cpu", "onnxruntime", "noise")}
        return {"ratio": ratio.ratio, "low": ratio.low, "high": ratio.high, **facts}

    return narrow(measure)


def failure(timing: Mapping[str, Any]) -> str | None:
    """Why a measurement fails the rule; None where it passes."""
    if _width(timing) > WIDEST:
        return f"the interval is wider than {WIDEST} after {timing['n_measured']} measurements: {shown(timing)}"
    if timing["low"] > LARGEST_LOW:
        return f"slower: {shown(timing)}, expected a lower end of at most {LARGEST_LOW}"
    return None


def shown(timing: Mapping[str, Any]) -> str:
    """The ratio and its interval."""
    return f"{timing['ratio']:.3f} ({timing['low']:.3f} to {timing['high']:.3f})"
