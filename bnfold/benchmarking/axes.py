"""The grid: every combination of provider, CUDA graph, threads, level, offline or not, input shapes and batch size."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from bnfold.runtime import Provider, available_threads, provider_spec

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "OPTIMIZE",
    "OPT_LEVELS",
    "Cell",
    "OptLevel",
    "Optimize",
    "as_axis",
    "grid",
    "set_opt_level",
    "shapes_of_input",
]

OptLevel = Literal["disabled", "basic", "extended", "all"]
OPT_LEVELS: tuple[OptLevel, ...] = get_args(OptLevel)
Optimize = Literal["online", "offline"]
OPTIMIZE: tuple[Optimize, ...] = get_args(Optimize)

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Cell:
    """One point of the grid.

    `shapes`: one per input, batch first, None where the file tells them. `optimize`: ONNX Runtime changes the graph
    when it loads the file ("online"), or has written the changed file before, which is loaded as it is ("offline").
    """

    provider: Provider
    threads: int
    opt_level: OptLevel
    shapes: tuple[Shape, ...] | None
    batch: int
    optimize: Optimize = "online"
    cuda_graph: bool = False

    @property
    def load_level(self) -> OptLevel:
        """How far ONNX Runtime may change the file that it loads in this cell."""
        return "disabled" if self.optimize == "offline" else self.opt_level

    def __str__(self) -> str:
        shapes = "".join(f", {'x'.join(map(str, shape))}" for shape in self.shapes or ())
        plural = "" if self.threads == 1 else "s"
        graph = " with CUDA graph" if self.cuda_graph else ""
        level = f"{self.opt_level}{' offline' if self.optimize == 'offline' else ''}"
        return f"{self.provider}{graph}, {self.threads} thread{plural}, {level}{shapes}, batch {self.batch}"


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
    optimize: Optimize | Sequence[Optimize] = "online",
    cuda_graph: bool = False,
) -> list[Cell]:
    """Every combination, in order, the batch size turning fastest.

    Args:
        provider: one or several.
        threads: one or several numbers; None is every CPU this process may use.
        opt_level: graph optimization levels of ONNX Runtime.
        input_shapes: for every input a shape, or several shapes to go through; the n-th shapes of all inputs belong
            together.
        batches: one or several batch sizes.
        optimize: online, offline or both.
        cuda_graph: where the provider makes graphs, once without and once with them.

    Raises:
        ValueError: an axis is empty, names no optimization level, or inputs have different numbers of shapes.
    """
    levels = as_axis(opt_level)
    optimizing = as_axis(optimize)
    unknown = [level for level in levels if level not in OPT_LEVELS] + [o for o in optimizing if o not in OPTIMIZE]
    counts = as_axis(tuple(count or available_threads() for count in as_axis(threads)))
    graphs = (False, True) if cuda_graph else (False,)
    providers = [
        (name, graph)
        for name in as_axis(provider)
        for graph in graphs
        if not graph or provider_spec(name).graph_options is not None
    ]
    cells = [
        Cell(name, count, level, shapes, batch, offline, graph)
        for (name, graph), count, level, offline, shapes, batch in product(
            providers, counts, levels, optimizing, _together(input_shapes), as_axis(batches)
        )
    ]
    if unknown or not cells:
        raise ValueError(f"no optimization level: {unknown}" if unknown else "an axis of the grid is empty")
    return cells


def _together(shapes: Sequence[Shape] | Sequence[Sequence[Shape]] | None) -> tuple[tuple[Shape, ...] | None, ...]:
    """The shapes of all inputs, one tuple for each point of this axis."""
    if not shapes:
        return (None,)
    several = [list(own) for own in map(shapes_of_input, shapes)]
    if len({len(own) for own in several}) > 1:
        raise ValueError(f"{[len(own) for own in several]} shapes: give equally many for every input")
    return cast("tuple[tuple[Shape, ...] | None, ...]", tuple(dict.fromkeys(zip(*several, strict=True))))


def shapes_of_input(given: Shape | Sequence[Shape]) -> tuple[Shape, ...]:
    """The shapes of one input, of which one may be given alone; () is that of a number."""
    if all(isinstance(size, int) for size in given):
        return (cast("Shape", tuple(given)),)
    return tuple(cast("Sequence[Shape]", given))


def set_opt_level(ort: Any, options: Any, level: OptLevel) -> None:
    """Set the level in `SessionOptions` (onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations)."""
    options.graph_optimization_level = getattr(
        ort.GraphOptimizationLevel, "ORT_DISABLE_ALL" if level == "disabled" else f"ORT_ENABLE_{level.upper()}"
    )
