"""The grid: every combination of provider, threads, optimization level, input shapes and batch size."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from bnfold.runtime import Provider, available_threads

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["OPT_LEVELS", "Cell", "OptLevel", "as_axis", "grid", "set_opt_level"]

OptLevel = Literal["disabled", "basic", "extended", "all"]
OPT_LEVELS: tuple[OptLevel, ...] = get_args(OptLevel)

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Cell:
    """One point of the grid. `shapes`: one per input, batch first, None where the file tells them."""

    provider: Provider
    threads: int
    opt_level: OptLevel
    shapes: tuple[Shape, ...] | None
    batch: int

    def __str__(self) -> str:
        shapes = "".join(f", {'x'.join(map(str, shape))}" for shape in self.shapes or ())
        plural = "" if self.threads == 1 else "s"
        return f"{self.provider}, {self.threads} thread{plural}, {self.opt_level}{shapes}, batch {self.batch}"


def as_axis(values: Any) -> tuple[Any, ...]:
    """One value, or a tuple or list of several, as a tuple without repetition, in their order."""
    return tuple(dict.fromkeys(values if isinstance(values, (tuple, list)) else (values,)))


def grid(
    *,
    provider: Provider | Sequence[Provider],
    threads: int | Sequence[int | None] | None,
    opt_level: OptLevel | Sequence[OptLevel],
    input_shapes: Sequence[Shape] | Sequence[Sequence[Shape]] | None,
    batches: int | Sequence[int],
) -> list[Cell]:
    """Every combination, in order, the batch size turning fastest.

    Args:
        provider: one or several.
        threads: one or several numbers; None is every CPU this process may use.
        opt_level: graph optimization levels of ONNX Runtime.
        input_shapes: for every input a shape, or several shapes to go through; the n-th shapes of all inputs belong
            together.
        batches: one or several batch sizes.

    Raises:
        ValueError: an axis is empty, names no optimization level, or inputs have different numbers of shapes.
    """
    levels = as_axis(opt_level)
    unknown = [level for level in levels if level not in OPT_LEVELS]
    counts = as_axis(tuple(count or available_threads() for count in as_axis(threads)))
    cells = [
        Cell(*point) for point in product(as_axis(provider), counts, levels, _together(input_shapes), as_axis(batches))
    ]
    if unknown or not cells:
        raise ValueError(f"no optimization level: {unknown}" if unknown else "an axis of the grid is empty")
    return cells


def _together(shapes: Sequence[Shape] | Sequence[Sequence[Shape]] | None) -> tuple[tuple[Shape, ...] | None, ...]:
    """The shapes of all inputs, one tuple for each point of this axis."""
    if not shapes:
        return (None,)
    several = [[shape] if isinstance(shape[0], int) else list(shape) for shape in shapes]
    if len({len(own) for own in several}) > 1:
        raise ValueError(f"{[len(own) for own in several]} shapes: give equally many for every input")
    return cast("tuple[tuple[Shape, ...] | None, ...]", tuple(dict.fromkeys(zip(*several, strict=True))))


def set_opt_level(ort: Any, options: Any, level: OptLevel) -> None:
    """Set the level in `SessionOptions` (onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations)."""
    options.graph_optimization_level = getattr(
        ort.GraphOptimizationLevel, "ORT_DISABLE_ALL" if level == "disabled" else f"ORT_ENABLE_{level.upper()}"
    )
