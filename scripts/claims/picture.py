"""The picture of scripts/claims.py: four panels, one above the other."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bnfold.report.svg import drawing, new_figure, save_picture
from claims.measures import BATCHES
from claims.statistics import STEPS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]

COLOURS = ("#7f7f7f", "#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito
TICKS = (20, 50, 100, 200, 500)
Results = dict[str, list[Any]]


def draw(results: Results, target: Path) -> None:
    """Write the picture, .svg or .png."""
    with drawing():
        figure = new_figure(5.5, 12.0)
        curves, batches, few, shifts = figure.subplots(4, 1)
        _curves(curves, results)
        _batches(batches, results)
        _few_steps(few, results)
        _shifts(shifts, results)
        save_picture(figure, target)


def _finish(axes: Axes, title: str, x_label: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axes.set_xlabel(x_label)
    axes.set_ylabel("test accuracy in %")
    axes.grid(color="black", alpha=0.15, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)


def _curves(axes: Axes, results: Results) -> None:
    for name, colour in (("without", COLOURS[0]), ("with", COLOURS[1])):
        for seed, one in enumerate(results["steps_to_90"]):
            x, y = zip(*one[name]["curve"], strict=True)
            axes.plot(x, y, color=colour, linewidth=1.2, label=f"{name} BatchNorm" if seed == 0 else None)
    axes.axhline(90, color="black", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks(TICKS, [str(tick) for tick in TICKS])
    _finish(axes, "Steps to 90 %, sigmoid 3x100, three seeds", "steps")


def _batches(axes: Axes, results: Results) -> None:
    for norm, colour in zip(results["batch_sizes"][0], COLOURS, strict=True):
        middle = [median(one[norm][i] for one in results["batch_sizes"]) for i in range(len(BATCHES))]
        axes.plot(BATCHES, middle, color=colour, marker="o", markersize=4, label=norm)
    axes.set_xscale("log", base=2)
    axes.set_xticks(BATCHES, [str(batch) for batch in BATCHES])
    _finish(axes, "Normalizations over the batch size, median", "batch size")


def _few_steps(axes: Axes, results: Results) -> None:
    for name, colour in (("moving average", COLOURS[2]), ("pooled", COLOURS[1])):
        middle = [median(one[name][i] for one in results["few_steps"]) for i in range(len(STEPS))]
        axes.plot(STEPS, middle, color=colour, marker="o", markersize=4, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(STEPS, [str(step) for step in STEPS])
    _finish(axes, "Running statistics after few steps, median", "steps")


def _shifts(axes: Axes, results: Results) -> None:
    names = list(results["shifted"][0])
    for index, label in enumerate(("not adapted", "half", "new statistics")):
        heights = [median(one[name][index] for one in results["shifted"]) for name in names]
        places = [row + (index - 1) * 0.27 for row in range(len(names))]
        axes.barh(places, heights, height=0.25, color=COLOURS[index], label=label)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    _finish(axes, "Shifted test data, median", "test accuracy in %")
    axes.set_ylabel("")
    axes.set_xlim(0, 160)  # leaves the legend a place beside the bars
    axes.set_xticks(range(0, 101, 20))
