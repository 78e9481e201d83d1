"""What a report says of a layer or a node of the drawing: channels that left, branches that merged, precision, time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from bnfold.records.network import module_path
from bnfold.report.network_tree import Row

__all__ = ["LayerFacts", "Time"]

Facts = Mapping[str, Any]
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Time:
    """Milliseconds of one run: in the file, and in the one it is compared with; None where not known."""

    ms: float | None
    against_ms: float | None


class LayerFacts:
    """Everything that a report has by layer.

    Args:
        report: the JSON of `fold-export`, `inspect` or `quantize`.
        profile: that of the same file by `bench --profile`, which has other times.
    """

    def __init__(self, report: Facts, profile: Facts | None = None) -> None:
        self.channels = _by_path((item["layer"], item) for item in report.get("removed_channels") or ())
        merged = report.get("merged_branches") or ()
        self.merged = _by_path((item["layer"], item["branches"]) for item in merged)
        self.merged_into = _by_path(
            (name, item["layer"]) for item in merged for name in (item["layer"], *item["branches"])
        )
        self.layers: dict[str, Facts] = {}
        for layer in report.get("layers") or ():  # of quantize: by node, or by layer where it has one node alone
            self.layers.setdefault(str(layer["name"]), layer)
        timing = report.get("timing") or {}
        self._times: dict[str, Time] = {}
        timed = profile["layers"] if profile is not None else timing.get("layers") or ()
        self._times |= _by_path((own["name"], Time(own["ms"], own.get("against_ms"))) for own in timed)
        for name, layer in self.layers.items():
            if layer.get("ms") is not None:
                self._times[name] = Time(layer["ms"], layer.get("float_ms"))

    @property
    def has_times(self) -> bool:
        """Whether any layer has a time."""
        return bool(self._times)

    def all_times(self) -> Iterable[Time]:
        """The time of every layer that has one."""
        return self._times.values()

    def layer_of(self, node: Facts | None) -> Facts | None:
        """What `quantize` says of a node of the file."""
        if node is None:
            return None
        name = str(node["name"])
        found = self.layers.get(name) or self.layers.get(name.rpartition("/")[0])
        return found if found is not None and found["op"] == node["op"] else None

    def time_of(self, row: Row) -> tuple[str, Time] | None:
        """The time of an operator, and the name that it stands under: operators of one layer may share it."""
        for name in _names(row):
            if name in self._times:
                return name, self._times[name]
        return None

    def sum_of(self, rows: Iterable[Row]) -> Time | None:
        """The time of operators together, each name once; None where none is known."""
        found = dict(own for row in rows if (own := self.time_of(row)) is not None)
        ms = [time.ms for time in found.values() if time.ms is not None]
        against = [time.against_ms for time in found.values() if time.against_ms is not None]
        return Time(sum(ms) if ms else None, sum(against) if against else None) if found else None


def _by_path(items: Iterable[tuple[str, T]]) -> dict[str, T]:
    """By the name itself, and by the path that it stands for."""
    return {key: value for name, value in items for key in (name, module_path(name))}


def _names(row: Row) -> Iterator[str]:
    """What the time of a row may stand under."""
    if row.after is not None:
        yield row.after["name"]
        yield row.after["name"].rpartition("/")[0]
    for node in (row.after, row.before):
        if node is not None:
            yield from filter(None, (node["parameters"], node["layer"]))
