"""Which runs belong side by side: those that differ in nothing but the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bnfold.records.grid import axes_of, differing

__all__ = ["label", "medians", "settings", "shortened"]

Facts = Mapping[str, Any]


def settings(rows: Sequence[Facts]) -> dict[str, list[Facts]]:
    """The rows (runs or ratios) of each setting of a measurement, by a text that names all of it, in their order."""
    cells: dict[str, list[Facts]] = {}
    for row in rows:
        cells.setdefault(" ".join(f"{axis}={value}" for axis, value in axes_of(row).items()), []).append(row)
    return cells


def label(row: Facts, rows: Sequence[Facts]) -> str:
    """The setting of one row in words: its batch, and whatever else differs among all the rows."""
    return ", ".join([f"batch {row['batch']}", *differing(row, rows).values()])


def medians(runs: Sequence[Facts]) -> dict[str, list[tuple[int, float]]]:
    """(batch, median milliseconds) of each file and setting besides the batch, by its name, batches in order."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for run in runs:
        name = ", ".join([run["name"], *differing(run, runs).values()])
        lines.setdefault(name, []).append((run["batch"], run["median_ms"]))
    return {name: sorted(points) for name, points in lines.items()}


def shortened(text: str, length: int) -> str:
    """The text, or its two ends with an ellipsis between them where it is longer."""
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"
