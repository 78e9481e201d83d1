"""Where in the grid of a measurement a run or a ratio belongs: the axes, and their words in tables, pages and gates."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["AXES", "DEFAULTS", "Place", "axes_of", "differing", "in_grid", "setting"]

Facts = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Place:
    """The nine axes: fields of every `BenchRun` and `BenchRatio`; those with a default may lack in older reports.

    `provider` has ONNX Runtime's name of it, `input_shapes` the sizes of the inputs by their names.
    """

    provider: str | None
    batch: int
    threads: int | None = None
    opt_level: str = "all"
    optimize: str = "online"
    cuda_graph: bool = False
    mode: str = "latency"
    concurrency: int = 1
    input_shapes: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """The axes by their names."""
        return {name: getattr(self, name) for name in AXES}


AXES = tuple(field.name for field in dataclasses.fields(Place))
DEFAULTS = {name: getattr(Place(None, 0), name) for name in AXES[2:]} | {"provider": None, "batch": None}


def axes_of(row: Facts) -> dict[str, Any]:
    """The axes of a run or a ratio, or of what the JSON of an older report has of one."""
    return {name: row.get(name, DEFAULTS[name]) for name in AXES}


def setting(row: Facts) -> dict[str, str]:
    """The axes of the grid besides the batch, each in words.

    Args:
        row: the fields of a `BenchRun` or `BenchRatio`, or what the JSON of an older report has of them.
    """
    axes = axes_of(row)
    threads, shapes = axes["threads"], (axes["input_shapes"] or {}).values()
    return {
        "threads": f"{threads} thread{'' if threads == 1 else 's'}",
        "opt_level": str(axes["opt_level"]),
        "provider": str(axes["provider"]).removesuffix("ExecutionProvider").lower(),
        "optimize": str(axes["optimize"]),
        "cuda_graph": "CUDA graph" if axes["cuda_graph"] else "no CUDA graph",
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
