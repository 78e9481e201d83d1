"""A file measured then and now, by which the others are held to a baseline: a slower machine is slower for all alike.

    (time(file) / time(yardstick)) now / (time(file) / time(yardstick)) then

Both ratios are of interleaved runs, so that neither depends on how fast the machine was on that day.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any

from bnfold.records.grid import axes_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Spread", "cell_key", "run_key", "same_file", "times_over_yardstick"]

PLAIN = "plain"

Facts = dict[str, Any]
CellKey = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Spread:
    """A positive number with its interval."""

    middle: float
    low: float
    high: float

    def over(self, other: Spread) -> Spread:
        """The quotient of two that were measured apart.

        Their relative errors add like independent ones: with the logarithm's half widths h,
        `log(high / middle) = sqrt(h_self^2 + h_other^2)`, for each side.
        """
        up = math.hypot(_log_gap(self.middle, self.high), _log_gap(other.low, other.middle))
        down = math.hypot(_log_gap(self.low, self.middle), _log_gap(other.middle, other.high))
        middle = self.middle / other.middle
        return Spread(middle, middle * math.exp(-down), middle * math.exp(up))

    def inverse(self) -> Spread:
        """One over it."""
        return Spread(1 / self.middle, 1 / self.high, 1 / self.low if self.low > 0 else math.inf)


def _log_gap(low: float, high: float) -> float:
    """log(high / low); infinite where nothing bounds the number from below."""
    return math.log(high / low) if low > 0 else math.inf


def cell_key(row: Mapping[str, Any]) -> CellKey:
    """Where in the grid a run or a ratio was measured, under which load; the sizes of the inputs are part of it."""
    axes = axes_of(row)
    shapes = {name: list(shape) for name, shape in (axes.pop("input_shapes") or {}).items()}
    return (*map(str, axes.values()), json.dumps(shapes, sort_keys=True))


def run_key(run: Mapping[str, Any]) -> CellKey:
    """What makes two runs the same measurement."""
    return (str(run["name"]), *cell_key(run))


def same_file(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two runs are known to be of one file."""
    return one.get("sha256") is not None and one.get("sha256") == other.get("sha256")


def times_over_yardstick(
    now: Sequence[Facts], now_ratios: Sequence[Facts], then: Sequence[Facts], then_ratios: Sequence[Facts]
) -> dict[CellKey, tuple[str, dict[str, Spread]]]:
    """For each cell that has a yardstick its name, and by the file's name the ratio of ratios.

    Args:
        now: the runs of today.
        now_ratios: their ratios, time(first) / time(other).
        then: the runs of the baseline.
        then_ratios: the baseline's ratios.
    """
    earlier = {run_key(run): run for run in then}
    relative_now, relative_then = _relative_times(now_ratios), _relative_times(then_ratios)
    found = {}
    for cell, times in relative_now.items():
        before = relative_then.get(cell, {})
        runs = [run for run in now if cell_key(run) == cell and run["name"] in times and run["name"] in before]
        pairs = [(run, earlier[run_key(run)]) for run in runs if run_key(run) in earlier]
        name = _yardstick(pairs, first=next(iter(times)))
        if name is not None:
            found[cell] = (
                name,
                {
                    own: times[own].over(times[name]).over(before[own].over(before[name]))
                    for own in (run["name"] for run, _ in pairs)
                    if own != name
                },
            )
    return found


def _relative_times(ratios: Sequence[Facts]) -> dict[CellKey, dict[str, Spread]]:
    """For each cell the time of every file over that of the first, which comes first."""
    found: dict[CellKey, dict[str, Spread]] = {}
    for ratio in ratios:
        times = found.setdefault(cell_key(ratio), {ratio["a"]: Spread(1.0, 1.0, 1.0)})
        times[ratio["b"]] = Spread(ratio["ratio"], ratio["low"], ratio["high"]).inverse()
    return found


def _yardstick(pairs: Sequence[tuple[Facts, Facts]], first: str) -> str | None:
    """The file to compare the others by: one that is still the same, else the plain export.

    Of several the plain export comes first, and last the file that the others are compared with today. Where a baseline
    does not say what its files were, any but that one is taken for the same.
    """
    same = [now["name"] for now, then in pairs if same_file(now, then)]
    same.sort(key=lambda name: (name == first, name != PLAIN))
    unknown = [
        now["name"]
        for now, then in pairs
        if now["name"] != first and now.get("sha256") is not None and then.get("sha256") is None
    ]
    plain = [now["name"] for now, _ in pairs if now["name"] == PLAIN]
    return next(iter([*same, *plain, *unknown]), None)
