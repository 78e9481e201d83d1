"""How the time of a batch grows with it, and what that is worth: from a report of `bnfold bench --batch 1,2,4,...`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.records import BenchReport

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["BatchCurve", "BatchPoint", "read_curve"]

_PLACE = ("provider", "threads", "opt_level", "optimize", "cuda_graph")
_REMEDY = "measure one with `bnfold bench FILE --batch 1,2,4,8 --json FILE.json`"


@dataclass(frozen=True)
class BatchPoint:
    """The median time of one batch, with its 99 % interval, in milliseconds."""

    batch: int
    median_ms: float
    low_ms: float
    high_ms: float


@dataclass(frozen=True)
class BatchCurve:
    """Times by batch, ascending."""

    points: tuple[BatchPoint, ...]

    @property
    def largest(self) -> int:
        """The largest batch that was measured."""
        return self.points[-1].batch

    @property
    def preferred(self) -> int:
        """The smallest batch whose time per sample ties with the best one's: the intervals of the two overlap."""
        best = min(self.points, key=lambda point: point.median_ms / point.batch)
        return next(p.batch for p in self.points if p.low_ms / p.batch <= best.high_ms / best.batch)

    @property
    def queue_delay_us(self) -> int:
        """How long a request may wait for others, in microseconds: what the preferred batch saves it.

            t(1) - t(b) / b

        0 where nothing is saved, or a batch of 1 was not measured. Waiting longer costs more than it brings.
        """
        times = {point.batch: point.median_ms for point in self.points}
        if 1 not in times:
            return 0
        return max(0, round(1e3 * (times[1] - times[self.preferred] / self.preferred)))


def read_curve(path: Path, *, sha256: str, provider: str, batch_axes: Mapping[str, int | None]) -> BatchCurve:
    """The times of a file by batch.

    Args:
        path: a report of `bnfold bench --json`.
        sha256: of the file.
        provider: ONNX Runtime's name of the one that the file is served on.
        batch_axes: of the file's inputs, by name, the axis that counts the samples.

    Raises:
        InputRefused: it is no such report, or has no runs of this file in more than one batch.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != BenchReport.schema:
            raise ValueError(f"schema {content['schema']}, expected {BenchReport.schema}")  # noqa: TRY301
        runs = [run for run in content["runs"] if run.get("mode", "latency") == "latency"]
        own = [run for run in runs if run.get("sha256") == sha256 and run["provider"] == provider]
        points = _points(own, batch_axes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputRefused(
            "no report of bnfold bench", where=str(path), found=f"{type(error).__name__}: {error}", remedy=_REMEDY
        ) from error
    if len(points) < 2:
        found = f"{len(points)} batch" + "es" * (len(points) != 1)
        raise InputRefused(
            "the report holds no batch curve of this file", where=str(path), found=f"{found} of it on {provider}",
            expected="two batches or more, measured on the same bytes", remedy=_REMEDY,
        )  # fmt: skip
    return BatchCurve(points)


def _points(runs: Sequence[Mapping[str, Any]], batch_axes: Mapping[str, int | None]) -> tuple[BatchPoint, ...]:
    """Those of the place in the grid that the first run has."""
    here = [run for run in runs if _place(run, batch_axes) == _place(runs[0], batch_axes)]
    found = {}
    for run in here:
        low, high = run.get("intervals", {}).get("median_ms", (run["median_ms"], run["median_ms"]))
        found[int(run["batch"])] = BatchPoint(int(run["batch"]), float(run["median_ms"]), float(low), float(high))
    return tuple(found[batch] for batch in sorted(found))


def _place(run: Mapping[str, Any], batch_axes: Mapping[str, int | None]) -> tuple[Any, ...]:
    """Where in the grid a run is, but for its batch."""
    rows = {
        name: [size for axis, size in enumerate(shape) if axis != batch_axes.get(name)]
        for name, shape in (run.get("input_shapes") or {}).items()
    }
    return (*(run.get(key) for key in _PLACE), rows)
