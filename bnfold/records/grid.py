"""Where in the grid of a measurement a run or a ratio belongs, in words: the same ones in tables, pages and gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["differing", "in_grid", "setting"]

Facts = Mapping[str, Any]


def setting(row: Facts) -> dict[str, str]:
    """The axes of the grid besides the batch, each in words.

    Args:
        row: the fields of a `BenchRun` or `BenchRatio`, or what the JSON of an older report has of them.
    """
    threads = row.get("threads")
    shapes = (row.get("input_shapes") or {}).values()
    return {
        "threads": f"{threads} thread{'' if threads == 1 else 's'}",
        "opt_level": str(row.get("opt_level", "all")),
        "provider": str(row.get("provider")).removesuffix("ExecutionProvider").lower(),
        "optimize": str(row.get("optimize", "online")),
        "cuda_graph": "CUDA graph" if row.get("cuda_graph") else "no CUDA graph",
        "input_shapes": " ".join("x".join(map(str, shape[1:])) for shape in shapes),
    }


def differing(row: Facts, rows: Sequence[Facts]) -> dict[str, str]:
    """Those of a row's axes besides the batch on which not all the rows are alike."""
    every = [setting(other) for other in rows]
    return {axis: words for axis, words in setting(row).items() if any(other[axis] != words for other in every)}


def in_grid(name: str, row: Facts, rows: Sequence[Facts]) -> str:
    """A name, and in brackets where in the grid it was measured, where there is more than one place."""
    told = ", ".join(differing(row, rows).values())
    return f"{name} [{told}]" if told else name
