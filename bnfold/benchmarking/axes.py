"""The grid: every combination of provider, CUDA graph, threads, level, offline or not, shapes and batch; and a load."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from bnfold.benchmarking.load import Load
from bnfold.records.grid import Place
from bnfold.records.tuning import GraphLevel
from bnfold.runtime import available_threads, provider_spec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnfold.runtime import Provider, ProviderSpec

__all__ = [
    "OPTIMIZE",
    "OPT_LEVELS",
    "Axes",
    "Cell",
    "OptLevel",
    "Optimize",
    "as_axis",
    "shapes_of_input",
]

OptLevel = GraphLevel
OPT_LEVELS: tuple[OptLevel, ...] = get_args(OptLevel)
Optimize = Literal["online", "offline"]
OPTIMIZE: tuple[Optimize, ...] = get_args(Optimize)

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Cell:
    """What is measured at a time: one point of the grid, with its value of each of the nine axes.

    `shapes`: one per input, batch first, None where the file tells them. `optimize`: ONNX Runtime changes the graph
    when it loads the file ("online"), or has written the changed file before, which is loaded as it is ("offline").
    `load` is two axes: how requests come in, and how many run at the same time.
    """

    provider: Provider
    threads: int
    opt_level: OptLevel
    shapes: tuple[Shape, ...] | None
    batch: int
    optimize: Optimize = "online"
    cuda_graph: bool = False
    load: Load = field(default_factory=Load)

    @property
    def load_level(self) -> OptLevel:
        """How far ONNX Runtime may change the file that it loads in this cell."""
        return "disabled" if self.optimize == "offline" else self.opt_level

    def place(self, shapes: Mapping[str, Shape]) -> Place:
        """The cell as a report names it.

        Args:
            shapes: of the inputs, by their names.
        """
        return Place(
            provider=provider_spec(self.provider).ort_name, batch=self.batch, threads=self.threads,
            opt_level=self.opt_level, optimize=self.optimize, cuda_graph=self.cuda_graph, input_shapes=shapes,
            mode=self.load.mode, concurrency=self.load.concurrency,
        )  # fmt: skip

    def __str__(self) -> str:
        shapes = "".join(f", {'x'.join(map(str, shape))}" for shape in self.shapes or ())
        plural = "" if self.threads == 1 else "s"
        graph = " with CUDA graph" if self.cuda_graph else ""
        level = f"{self.opt_level}{' offline' if self.optimize == 'offline' else ''}"
        return f"{self.provider}{graph}, {self.threads} thread{plural}, {level}{shapes}, batch {self.batch}"


def as_axis(values: Any) -> tuple[Any, ...]:
    """One value, or a tuple or list of several, as a tuple without repetition, in their order."""
    return tuple(dict.fromkeys(values if isinstance(values, (tuple, list)) else (values,)))


@dataclass(frozen=True)
class Axes:
    """What a measurement goes through: one value, or several, of each axis, and one load.

    Args:
        provider: where every node runs; never another one instead.
        threads: threads of one operator; None is every CPU this process may use.
        opt_level: how far ONNX Runtime may change the graph: its graph optimization levels.
        optimize: when it loads the file ("online"), or in a file that it wrote before ("offline"), or both.
        cuda_graph: where the provider makes graphs, once without and once with them.
        batch: batch sizes.
        input_shapes: for every input a shape, batch first, where axes besides the batch are dynamic; or several shapes
            to go through: the n-th shapes of all inputs belong together.
        load: how requests come in.
    """

    provider: Provider | Sequence[Provider] = "cpu"
    threads: int | Sequence[int | None] | None = None
    opt_level: OptLevel | Sequence[OptLevel] = "all"
    optimize: Optimize | Sequence[Optimize] = "online"
    cuda_graph: bool = False
    batch: int | Sequence[int] = 1
    input_shapes: Sequence[Shape] | Sequence[Sequence[Shape]] | None = None
    load: Load = field(default_factory=Load)

    @property
    def providers(self) -> tuple[ProviderSpec, ...]:
        """The providers, in their order."""
        return tuple(provider_spec(name) for name in as_axis(self.provider))

    def cells(self) -> list[Cell]:
        """Every combination, in order, the batch size turning fastest.

        Raises:
            ValueError: an axis is empty, names no optimization level, or inputs have different numbers of shapes.
        """
        levels, optimizing = as_axis(self.opt_level), as_axis(self.optimize)
        unknown = [level for level in levels if level not in OPT_LEVELS] + [o for o in optimizing if o not in OPTIMIZE]
        counts = as_axis(tuple(count or available_threads() for count in as_axis(self.threads)))
        graphs = (False, True) if self.cuda_graph else (False,)
        providers = [
            (spec.name, graph)
            for spec in self.providers
            for graph in graphs
            if not graph or spec.graph_options is not None
        ]
        cells = [
            Cell(name, count, level, shapes, batch, offline, graph, self.load)
            for (name, graph), count, level, offline, shapes, batch in product(
                providers, counts, levels, optimizing, _together(self.input_shapes), as_axis(self.batch)
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
