"""The picture of a file of lower precision: each layer's precision, its error, and its time beside the float file's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bnfold.report.pictures import AXIS_IN, Panel
from bnfold.report.settings import shortened
from bnfold.report.tables import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

__all__ = ["MOST_ROWS", "layer_panels"]

Facts = Mapping[str, Any]
MOST_ROWS = 40
"""Layers in the picture: those that take most time, or lost most where no time was measured; the table has all."""
ROW_IN = 0.4
COLOURS = {"int8": "#0072b2", "fp16": "#009e73", "float32": "#d55e00"}
FLOAT_COLOUR = "#7f7f7f"


def layer_panels(report: Facts) -> list[Panel]:
    """The picture that a report of `bnfold quantize` has numbers for; none where no layer has a figure.

    Args:
        report: the JSON of `bnfold quantize`.
    """
    layers = [layer for layer in report["layers"] if layer.get("sqnr_db") is not None or layer.get("ms") is not None]
    if not layers:
        return []
    shown = _most_telling(layers)
    timed = any(layer.get("ms") is not None for layer in shown)
    caption = "Dots: signal over quantisation noise of what a layer writes, errors of the layers in front included."
    if timed:
        caption += " Bars: its time in milliseconds, the float file's in grey above it."
    if len(shown) < len(report["layers"]):
        caption += f" {len(shown)} of {len(report['layers'])} layers, in the network's order."
    height = AXIS_IN + ROW_IN * len(shown)
    return [Panel("layers", caption, height, lambda figure: _draw(figure, shown, timed=timed))]


def _most_telling(layers: Sequence[Facts]) -> list[Facts]:
    """At most MOST_ROWS layers, in the network's order."""
    timed = any(layer.get("ms") is not None for layer in layers)

    def weight(k: int) -> float:
        layer = layers[k]
        if timed:
            return -max(layer.get("ms") or 0.0, layer.get("float_ms") or 0.0)
        return float(layer["sqnr_db"])

    chosen = sorted(sorted(range(len(layers)), key=weight)[:MOST_ROWS])
    return [layers[k] for k in chosen]


def _draw(figure: FigureBase, layers: Sequence[Facts], *, timed: bool) -> None:
    """A row for each layer: its name and precision, its error, and its times."""
    grid = figure.subplots(1, 2 if timed else 1, squeeze=False, sharey=True)
    _draw_errors(grid[0, 0], layers)
    if timed:
        _draw_times(grid[0, 1], layers)
    for axes in grid[0]:
        axes.set_ylim(len(layers) - 0.4, -0.75)
        axes.set_yticks([])
        axes.spines[["left", "top", "right"]].set_visible(False)
        axes.grid(axis="x", color="black", alpha=0.15, linewidth=0.6)
        axes.set_axisbelow(True)


def _draw_errors(axes: Axes, layers: Sequence[Facts]) -> None:
    for row, layer in enumerate(layers):
        colour = COLOURS.get(layer["precision"], FLOAT_COLOUR)
        if layer.get("sqnr_db") is not None:
            axes.plot([layer["sqnr_db"]], [row], color=colour, marker="o", markersize=5, linestyle="none")
        axes.annotate(
            f"{layer['precision']}  {shortened(layer['name'], 30)}", (0, row), xycoords=("axes fraction", "data"),
            xytext=(0, 5), textcoords="offset points", fontsize=7, color=colour,
        )  # fmt: skip
    found = [layer["sqnr_db"] for layer in layers if layer.get("sqnr_db") is not None]
    if found:
        axes.set_xlim(min(0.0, *found), max(found) + 5)
    axes.set_xlabel("error in dB; more is better")
    axes.set_title("Layers: error", loc="left", fontsize=10, fontweight="bold")


def _draw_times(axes: Axes, layers: Sequence[Facts]) -> None:
    for row, layer in enumerate(layers):
        own, exact = layer.get("ms"), layer.get("float_ms")
        if exact is not None:
            axes.barh(row - 0.12, exact, height=0.2, color=FLOAT_COLOUR)
        if own is not None:
            axes.barh(row + 0.12, own, height=0.2, color=COLOURS.get(layer["precision"], FLOAT_COLOUR))
            text = number(own, 3) if exact is None else f"{number(own, 3)} of {number(exact, 3)}"
            axes.annotate(
                text, (max(own, exact or 0.0), row), xytext=(3, -3), textcoords="offset points", fontsize=7
            )  # fmt: skip
    axes.margins(x=0.35)
    axes.set_xlim(left=0)
    axes.set_xlabel("ms; less is better")
    axes.set_title("time", loc="left", fontsize=10, fontweight="bold")
