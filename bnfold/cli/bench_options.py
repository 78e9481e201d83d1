"""Options of `bnfold bench` alone: axes with several values, and times with a unit."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from bnfold.cli.parameter_types import Distinct, InputShape
from bnfold.runtime.providers import provider_spec
from bnfold.workflows.arguments import MAX_THREADS

__all__ = ["Names", "Percent", "Seconds", "ShapeList", "Threads", "check_usage"]

UNITS = {"ms": 1e-3, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}

if TYPE_CHECKING:
    NamesType = click.ParamType[tuple[str, ...]]
    SecondsType = click.ParamType[float]
    ShapesType = click.ParamType[tuple[tuple[int, ...], ...]]
else:
    NamesType = SecondsType = ShapesType = click.ParamType  # not subscriptable before click 8.2


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


class Threads(Distinct):
    """Different numbers of threads: "1,2" -> (1, 2)."""

    example = "1,2"
    kind = "number of threads"
    largest = MAX_THREADS


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


class Seconds(SecondsType):
    """A positive time: "60", "60s", "500ms" or "2m"; the command gets seconds.

    Args:
        or_none: whether 0 is a time, too.
    """

    name = "TIME"

    def __init__(self, *, or_none: bool = False) -> None:
        self.or_none = or_none

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse a string; a number (a default) passes unchanged."""
        if isinstance(value, (int, float)):
            return float(value)
        match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|min|m|h|)", str(value).strip())
        if match is None or (float(match[1]) <= 0 and not self.or_none):
            kind = "a time" if self.or_none else "a time above 0"
            self.fail(f"{value!r} is not {kind} such as 60s, 500ms or 2m.", param, ctx)
        return float(match[1]) * UNITS[match[2]]


class Percent(SecondsType):
    """A share: "3%" or "3" -> 0.03."""

    name = "3%"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse a string; a number (a default) passes unchanged."""
        if isinstance(value, (int, float)):
            return float(value)
        match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*%?", str(value).strip())
        if match is None:
            self.fail(f"{value!r} is not a share such as 3%.", param, ctx)
        return float(match[1]) / 100


def check_usage(
    *, slo_s: float | None, input_shapes: tuple[tuple[Any, ...], ...], picture: Any, **options: Any
) -> None:
    """Refuse options that do not go together, or that change nothing.

    Raises:
        click.UsageError: the first such option.
    """
    wrong = {
        "--picture wants a file that ends in .svg or .png.": picture is not None
        and picture.suffix.lower() not in (".svg", ".png"),
        "give equally many shapes in each --input-shape: the n-th ones belong together.": len(
            {len(shapes) for shapes in input_shapes}
        )
        > 1,
        "--fail-if-slower wants --baseline FILE or --fail-if-slower-than NAME.": options["fail_if_slower"] is not None
        and options["baseline"] is None
        and options["fail_if_slower_than"] is None,
        "--baseline wants --fail-if-slower 3%, the limit it is held to.": options["baseline"] is not None
        and options["fail_if_slower"] is None,
        "--source, --weights and --pretrained want --against PEER[,...], the peers to build.": not options["against"]
        and (options["source"] is not None or options["weights"] is not None or options["pretrained"]),
        "--against wants --source SOURCE, which the peers are built from.": options["against"]
        and options["source"] is None,
        "--slo-p95 is the limit of --mode open-loop.": slo_s is not None and options["mode"] != "open-loop",
        "--concurrency wants --mode throughput or open-loop.": options["concurrency"] is not None
        and options["mode"] == "latency",
        "--cuda-graph wants --provider cuda.": options["cuda_graph"]
        and all(provider_spec(name).graph_options is None for name in options["provider"]),
        "a CUDA graph serves one request at a time: leave out --cuda-graph or --mode.": options["cuda_graph"]
        and options["mode"] != "latency",
    }
    for sentence, holds in wrong.items():
        if holds:
            raise click.UsageError(sentence)
