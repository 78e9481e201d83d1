"""Pictures of a measurement: how the latencies are spread, the ratios with their intervals, latency over batch.

They are drawn from the JSON of `bnfold bench`, so that an older file gives the same picture. Everything is a row with
its name above it, in place of labels beside the axes: names are long, and phones are narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.records.verdicts import verdict_in_words
from bnfold.report.settings import label, medians, settings, shortened
from bnfold.report.svg import drawing, encoded, new_figure
from bnfold.report.tables import number
from bnfold.report.write import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

__all__ = ["Panel", "panels", "picture", "write_picture"]

Facts = Mapping[str, Any]

WIDTH_IN = 5.0
ROW_IN = 0.48
NAME_LENGTH = 42  # letters that a row has room for beside its numbers
SHORTEST_NAME = 8
AXIS_IN = 0.62  # ticks, label and title around the rows
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7f7f7f", "#e69f00")
"""Colours that the colour-blind can tell apart (Okabe and Ito), in tones that show on white and on black."""
MARKERS = "osD^vP"
VERDICTS = {"faster": "#009e73", "slower": "#d55e00", "tie": "#7f7f7f", "undecided": "#cc79a7"}
NEAR_MS = "run time in ms; less is better"
SUFFIXES = (".svg", ".png")


@dataclass(frozen=True)
class Panel:
    """One picture: its name, a sentence that says how to read it, its height, and what draws it."""

    name: str
    caption: str
    height_in: float
    draw: Callable[[FigureBase], None]


def panels(report: Facts) -> list[Panel]:
    """The pictures that a report of `bnfold bench` has numbers for, in the order to look at them."""
    found = []
    if report["ratios"]:
        height = AXIS_IN + ROW_IN * len(report["ratios"])
        caption = "Bars are 99 % intervals; one that touches the line at 1 is a tie."
        if any(ratio["verdict"] == "undecided" for ratio in report["ratios"]):
            caption += " Undecided: too noisy, or measured too little, to name a winner."
        found.append(Panel("ratios", caption, height, lambda figure: _draw_ratios(figure, report)))
    if report["runs"]:
        cells = settings(report["runs"])
        height = sum(AXIS_IN + ROW_IN * len(runs) for runs in cells.values())
        found.append(Panel("latency", _spread_caption(report), height, lambda figure: _draw_spreads(figure, report)))
    if len({run["batch"] for run in report["runs"]}) > 1:
        caption = "Medians; both axes are logarithmic."
        found.append(Panel("batch", caption, 3.2, lambda figure: _draw_batches(figure, report)))
    return found


def write_picture(report: Facts, target: Path) -> None:
    """Write all panels as one picture.

    Args:
        report: the JSON of `bnfold bench`.
        target: a file that ends in .svg or .png.

    Raises:
        InputRefused: another ending, a report without runs, or a file that cannot be written.
        EnvironmentNotReady: matplotlib is missing.
    """
    if target.suffix.lower() not in SUFFIXES:
        raise InputRefused(
            "the picture must be of a known kind", where=str(target), found=target.suffix or "no ending",
            expected=" or ".join(SUFFIXES), remedy="name the file accordingly",
        )  # fmt: skip
    write_bytes(picture(report, target.suffix.lower()), target)


def picture(report: Facts, suffix: str = ".svg") -> bytes:
    """All panels as one picture, the content of an .svg or .png file.

    Raises:
        InputRefused: a report without runs.
        EnvironmentNotReady: matplotlib is missing.
    """
    drawn = panels(report)
    if not drawn:
        raise InputRefused("nothing was measured", where="the report", remedy="measure at least one file")
    heights = [panel.height_in for panel in drawn]
    with drawing():
        figure = new_figure(WIDTH_IN, sum(heights))
        parts = figure.subfigures(len(drawn), 1, height_ratios=heights, squeeze=False)
        for part, panel in zip(parts[:, 0], drawn, strict=True):
            panel.draw(part)
        return encoded(figure, suffix)


def _draw_ratios(figure: FigureBase, report: Facts) -> None:
    """A row per ratio: the point, its interval, the verdict; a line at 1."""
    axes, ratios = figure.subplots(), report["ratios"]
    varying = ratios if len(settings(ratios)) > 1 else []
    for row, ratio in enumerate(ratios):
        colour = VERDICTS.get(ratio["verdict"], VERDICTS["tie"])
        axes.plot([ratio["low"], ratio["high"]], [row, row], color=colour, linewidth=2.5, solid_capstyle="butt")
        axes.plot([ratio["ratio"]], [row], color=colour, marker="o", markersize=6, linestyle="none")
        where = f", {label(ratio, varying)}" if varying else ""
        name = _pair(ratio["a"], ratio["b"], where)
        _name_row(axes, row, f"{ratio['ratio']:.3f}, {verdict_in_words(ratio)}: {name}")
        axes.plot([1, 1], [row - 0.2, row + 0.2], color="black", linewidth=1.2)
    ends = [1.0, *(ratio[key] for ratio in ratios for key in ("low", "high"))]
    margin = max(0.01, 0.1 * (max(ends) - min(ends)))
    axes.set_xlim(min(ends) - margin, max(ends) + margin)
    _finish(axes, len(ratios), "time ratio; left of 1 the first file is faster", "Time ratios")


def _pair(a: str, b: str, where: str) -> str:
    """Both names, each with its own beginning and end where a line has no room for them whole."""
    whole = f"{a} / {b}{where}"
    if len(whole) <= NAME_LENGTH:
        return whole
    room = max(NAME_LENGTH - len(f" / {where}"), 2 * SHORTEST_NAME)
    first = min(len(a), max(room // 2, room - len(b)))
    return shortened(f"{shortened(a, first)} / {shortened(b, room - first)}{where}", NAME_LENGTH)


def _draw_spreads(figure: FigureBase, report: Facts) -> None:
    """A panel per batch and setting, a row per file in it."""
    cells = settings(report["runs"])
    heights = [AXIS_IN + ROW_IN * len(runs) for runs in cells.values()]
    grid = figure.subplots(len(cells), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    order = list(dict.fromkeys(run["name"] for run in report["runs"]))
    for axes, runs in zip(grid[:, 0], cells.values(), strict=True):
        for row, run in enumerate(runs):
            _draw_spread(axes, row, run, COLOURS[order.index(run["name"]) % len(COLOURS)])
            _name_row(axes, row, f"{number(run['median_ms'], 4)} ms: {shortened(run['name'], 46)}")
        _finish(axes, len(runs), NEAR_MS, f"Latency, {label(runs[0], report['runs'])}")


def _draw_spread(axes: Axes, row: int, run: Facts, colour: str) -> None:
    """The median with its interval, and the percentiles there are."""
    low, high = (run.get("intervals") or {}).get("median_ms") or (run["median_ms"], run["median_ms"])
    axes.plot([low, high], [row, row], color=colour, linewidth=5, alpha=0.5, solid_capstyle="butt")
    axes.plot([run["median_ms"]], [row], color=colour, marker="o", markersize=5)
    beyond = [run[key] for key in ("p90_ms", "p95_ms") if run.get(key) is not None]
    axes.plot([run["median_ms"], *beyond], [row] * (1 + len(beyond)), color=colour, linewidth=1)
    axes.plot(beyond, [row] * len(beyond), color=colour, marker="|", markersize=9, linestyle="none")
    if run.get("p99_ms") is not None:
        axes.plot([run["p99_ms"]], [row], color=colour, marker="x", markersize=5, linestyle="none")


def _spread_caption(report: Facts) -> str:
    """How to read the rows that `_draw_spread` makes of these runs."""
    text = "Dots are medians, the ticks behind them the 90th and 95th percentile, as far as the runs support them."
    crosses = any(run.get("p99_ms") is not None for run in report["runs"])
    return text + (" Crosses are the 99th percentile." if crosses else "")


def _draw_batches(figure: FigureBase, report: Facts) -> None:
    """A line per file and setting: median over batch."""
    axes = figure.subplots()
    lines = medians(report["runs"])
    for index, (name, points) in enumerate(lines.items()):
        batches, times = zip(*points, strict=True)
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        axes.plot(batches, times, linewidth=1.5, markersize=5, label=shortened(name, 40), color=colour, marker=marker)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = sorted({run["batch"] for run in report["runs"]})
    axes.set_xticks(ticks, [str(batch) for batch in ticks])
    axes.minorticks_off()
    _plain_ticks(axes, [time for points in lines.values() for _, time in points])
    axes.set_xlabel("batch size")
    axes.set_ylabel("median run time in ms")
    axes.set_title("Latency over batch", loc="left", fontsize=10, fontweight="bold")
    axes.grid(color="black", alpha=0.15, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower left", frameon=False, fontsize=9, ncols=1)


def _plain_ticks(axes: Axes, times: list[float]) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5 times the powers of ten, as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    wide = max(times) > 100 * min(times)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))


def _name_row(axes: Axes, row: int, text: str) -> None:
    """Write a row's text above it. Names come last: one in Hebrew would change places with a number behind it."""
    axes.annotate(
        text, (0, row), xycoords=("axes fraction", "data"), xytext=(0, 7), textcoords="offset points", fontsize=9
    )


def _finish(axes: Axes, n_rows: int, x_label: str, title: str) -> None:
    """Rows from the top down, no frame but the lower axis, a light grid."""
    axes.set_ylim(n_rows - 0.55, -0.75)
    axes.set_yticks([])
    axes.spines[["left", "top", "right"]].set_visible(False)
    axes.grid(axis="x", color="black", alpha=0.15, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(x_label)
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
