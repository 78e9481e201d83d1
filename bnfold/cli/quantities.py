"""What an option's text means where it is a quantity: times with a unit, shares, limits of metrics."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

__all__ = ["Limit", "Part", "Percent", "Seconds"]

UNITS = {"ms": 1e-3, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}

if TYPE_CHECKING:
    NumberType = click.ParamType[float]
    LimitType = click.ParamType[tuple[str, float]]
else:
    NumberType = LimitType = click.ParamType  # not subscriptable before click 8.2


class Seconds(NumberType):
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


class Percent(NumberType):
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


class Part(NumberType):
    """A part: "0.5%" or 0.005; at least 0, below 1."""

    name = "0.5%"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse; a number without a percent sign is a fraction."""
        text = str(value).strip()
        try:
            part = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            self.fail(f"{value!r} is not of the form 0.5% or 0.005.", param, ctx)
        if not 0 <= part < 1:
            self.fail(f"{value!r} is not in the range 0% to 100%; write 0.5% or 0.005.", param, ctx)
        return part


class Limit(LimitType):
    """METRIC=VALUE."""

    name = "METRIC=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """Parse; percents are fractions of 1."""
        if isinstance(value, tuple):
            return value
        metric, sign, text = str(value).partition("=")
        try:
            number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            sign = ""
        if not sign or not metric:
            self.fail(f"{value!r} is not of the form accuracy=0.94.", param, ctx)
        return metric, number
