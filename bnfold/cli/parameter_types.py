"""What an option's text means where it names things: sizes, shapes, axes, words of a list, paths."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnfold.workflows.arguments import MAX_BATCH, MAX_THREADS

__all__ = [
    "Batches",
    "InputShape",
    "NamedAxes",
    "NamedPath",
    "NamedSize",
    "Names",
    "ShapeList",
    "Sizes",
    "Threads",
]

MAX_SIZE = 1 << 30

if TYPE_CHECKING:
    SizesType = click.ParamType[tuple[int, ...]]
    NamesType = click.ParamType[tuple[str, ...]]
    ShapesType = click.ParamType[tuple[tuple[int, ...], ...]]
    NamedSizeType = click.ParamType[tuple[str, int]]
    NamedAxesType = click.ParamType[tuple[str, dict[int, str]]]
else:  # not subscriptable before click 8.2
    SizesType = NamesType = ShapesType = NamedSizeType = NamedAxesType = click.ParamType


class Sizes(SizesType):
    """Positive whole numbers with a separator between them; the command gets a tuple of int."""

    separator: str
    example: str
    largest: int | None = None

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Parse a string; a tuple (a default) passes unchanged."""
        if isinstance(value, tuple):
            return value
        try:
            sizes = tuple(int(part) for part in str(value).split(self.separator))
        except ValueError:
            self.fail(f"{value!r} is not of the form {self.example}.", param, ctx)
        if min(sizes) < 1:
            self.fail(f"{value!r} holds a number below 1.", param, ctx)
        if self.largest is not None and max(sizes) > self.largest:
            self.fail(f"{value!r} holds a number that is not in the range 1 to {self.largest}.", param, ctx)
        return sizes


class Distinct(Sizes):
    """Different numbers, separated by commas."""

    name = "N[,N...]"
    separator = ","
    kind: str

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Parse, and refuse a number given twice."""
        numbers = super().convert(value, param, ctx)
        if len(set(numbers)) < len(numbers):
            self.fail(f"{value!r} names a {self.kind} twice.", param, ctx)
        return numbers


class Batches(Distinct):
    """Different batch sizes: "1,8" -> (1, 8)."""

    example = "1,8"
    kind = "batch size"
    largest = MAX_BATCH


class Threads(Distinct):
    """Different numbers of threads: "1,2" -> (1, 2)."""

    example = "1,2"
    kind = "number of threads"
    largest = MAX_THREADS


class InputShape(Sizes):
    """A shape, batch first: "1x3x224x224" -> (1, 3, 224, 224)."""

    name = "1xCxHxW"
    separator = "x"
    example = "1x3x224x224"


class ShapeList(ShapesType):
    """Shapes of one input: "1x3x224x224,1x3x64x64" -> ((1, 3, 224, 224), (1, 3, 64, 64))."""

    name = "1xCxHxW[,...]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[tuple[int, ...], ...]:
        """Parse a string; a tuple passes unchanged."""
        if isinstance(value, tuple):
            return value
        return tuple(InputShape().convert(part, param, ctx) for part in str(value).split(","))


class Names(NamesType):
    """Different words of a list, separated by commas: "basic,all" -> ("basic", "all")."""

    def __init__(self, *choices: str) -> None:
        self.choices = choices
        self.name = "|".join(choices)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Parse a string; a tuple (a default) passes unchanged."""
        if isinstance(value, tuple):
            return value
        names = tuple(str(value).split(","))
        for name in names:
            if name not in self.choices:
                self.fail(f"{name!r} is not one of {', '.join(self.choices)}.", param, ctx)
        if len(set(names)) < len(names):
            self.fail(f"{value!r} names one of them twice.", param, ctx)
        return names


class NamedSize(NamedSizeType):
    """A size with its name: "sequence=512" -> ("sequence", 512)."""

    name = "NAME=N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """Parse a string; the name may hold anything, an = included."""
        if isinstance(value, tuple):
            return value
        name, _, size = str(value).rpartition("=")
        if not name or not size.isascii() or not size.isdigit() or not 1 <= int(size) <= MAX_SIZE:
            self.fail(f"{value!r} is not of the form sequence=512, with a size from 1 to {MAX_SIZE}.", param, ctx)
        return name, int(size)


class NamedAxes(NamedAxesType):
    """Names of an input's axes: "x:0=batch,2=height" -> ("x", {0: "batch", 2: "height"})."""

    name = "INPUT:AXIS=NAME[,...]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, dict[int, str]]:
        """Parse a string; an axis stands once."""
        if isinstance(value, tuple):
            return value
        form = f"{value!r} is not of the form x:0=batch,2=height,3=width"
        input_name, _, parts = str(value).rpartition(":")
        axes: dict[int, str] = {}
        for part in parts.split(","):
            axis, _, name = (piece.strip() for piece in part.partition("="))
            if not input_name or not axis.isascii() or not axis.isdigit() or not name.isidentifier():
                self.fail(f"{form}.", param, ctx)
            if int(axis) in axes:
                self.fail(f"{value!r} names axis {axis} twice.", param, ctx)
            axes[int(axis)] = name
        return input_name, axes


class NamedPath(click.Path):
    """A path; the command gets a `Path`. An empty one is refused: it would be the working folder."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse a string."""
        if value == "":
            self.fail("the name is empty; name the working folder with a dot (.).", param, ctx)
        return super().convert(value, param, ctx)
