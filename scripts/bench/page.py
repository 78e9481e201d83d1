"""The table of scripts/bench_zoo.py, as lines and as Markdown, made from the reports alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from common.tables import markdown_table

from bnfold.records.verdicts import verdict_in_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["headings", "markdown", "named_ratios", "plain_line", "rows"]

HEADINGS = ("network", "batch", "graph", "plain ms", "folded ms", "ratio", "99 % interval", "verdict")
END_TO_END = ("plain end to end ms", "folded end to end ms")
FACTS = (
    "cpu", "gpu", "cuda_driver", "cuda_build", "cudnn", "n_cpus", "threads", "memory_mb", "os", "python",
    "onnxruntime_build", "onnxruntime", "build_info", "torch", "provider_options", "tf32", "interval_level", "budget_s",
)  # fmt: skip
ON_CUDA = """\
A time is that of one `run_with_iobinding` with inputs and outputs on the GPU, until the GPU is done; end to end, that
of one `run` from NumPy arrays to NumPy arrays, the copies between host and GPU included. A CUDA graph is captured in
the first run, which is not counted, and replayed on inputs that are on the GPU."""


def headings(*, on_cuda: bool) -> tuple[str, ...]:
    """The columns; on CUDA with the inputs, and the times end to end."""
    return (*HEADINGS[:2], "input", "CUDA graph", *HEADINGS[3:5], *END_TO_END, *HEADINGS[5:]) if on_cuda else HEADINGS


def plain_line(cells: Sequence[str], *, on_cuda: bool) -> str:
    """A line of the table, its columns as wide as their headings."""
    widths = [max(len(heading), 7) for heading in headings(on_cuda=on_cuda)]
    return "  ".join([cells[0].ljust(18), *(cell.rjust(n) for cell, n in zip(cells[1:], widths[1:], strict=True))])


def rows(name: str, report: Mapping[str, Any], *, on_cuda: bool) -> list[tuple[str, ...]]:
    """The cells of a network's lines: one for each ratio, and one for all CUDA graphs that were not to be had."""
    runs = {(run["name"], run["batch"], run["cuda_graph"]): run for run in report["runs"]}
    lines = []
    for ratio in report["ratios"]:
        pair = [runs[which, ratio["batch"], ratio["cuda_graph"]] for which in ("plain", "folded")]
        lines.append((
            name,
            str(ratio["batch"]),
            *((_shapes(ratio),) if on_cuda else ()),
            "yes" if ratio["cuda_graph"] else "no",
            *(f"{run['median_ms']:.3f}" for run in pair),
            *((_time(run["end_to_end_ms"]) for run in pair) if on_cuda else ()),
            f"{ratio['ratio']:.3f}",
            f"{ratio['low']:.3f} to {ratio['high']:.3f}",
            verdict_in_words(ratio) + (f" ({ratio['note']})" if ratio["note"] else ""),
        ))  # fmt: skip
    if report.get("no_cuda_graph"):
        empty = ("-",) * (len(headings(on_cuda=on_cuda)) - 5)
        lines.append((name, "all", "all", "none", *empty, f"no CUDA graph: {report['no_cuda_graph']}"))
    return lines


def _shapes(ratio: Mapping[str, Any]) -> str:
    """The shapes of the inputs, without the batch."""
    return " and ".join("x".join(map(str, shape[1:])) for shape in ratio["input_shapes"].values())


def _time(time_ms: float | None) -> str:
    return "-" if time_ms is None else f"{time_ms:.3f}"


def named_ratios(reports: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The ratios of all networks, each under the network's name, without the shapes of its inputs."""
    return [{**ratio, "a": name, "input_shapes": {}} for name, report in reports.items() for ratio in report["ratios"]]


def markdown(command: str, reports: Mapping[str, Any], failures: Mapping[str, str]) -> str:
    """The table and what it depends on.

    Args:
        command: what made it.
        reports: of each network, in the form of JSON.
        failures: why a network was not measured.
    """
    facts = next(iter(reports.values()))["environment"]
    on_cuda = facts["provider"] == "cuda"
    columns = headings(on_cuda=on_cuda)
    lines = [line for name, report in reports.items() for line in rows(name, report, on_cuda=on_cuda)]
    text = ["# Folded networks against the plain export", "", f"`{command}`", ""]
    text += ["Ratios are time(folded) / time(plain), from interleaved runs; random weights, calibrated statistics."]
    text += ["", ON_CUDA] if on_cuda else []
    text += [
        "",
        markdown_table(columns, lines, right=(1, *range(3 + on_cuda, len(columns) - 1))),
    ]
    shown = [(key, facts[key]) for key in FACTS if facts.get(key) is not None]
    values = [(key, json.dumps(value) if isinstance(value, dict) else str(value)) for key, value in shown]
    text += ["", markdown_table(("environment", ""), values)]
    noisy = [name for name, report in reports.items() if report["environment"]["noise"] == "noisy"]
    text += ["", f"Noisy while measured: {', '.join(noisy) or 'none'}."]
    text += ["", f"Nodes on the CPU: {_elsewhere(reports) or 'none'}."] if on_cuda else []
    text += [f"\nNot measured: {name}, {reason}." for name, reason in failures.items()]
    return "\n".join(text) + "\n"


def _elsewhere(reports: Mapping[str, Any]) -> str:
    """Which networks have nodes that CUDA did not take, and of what kind."""
    found = [(name, placed) for name, report in reports.items() for placed in report["placements"]]
    kinds = [sorted(node["op_type"] for node in placed["elsewhere"]) for _, placed in found]
    return "; ".join(
        f"{name} {placed['name']}, {len(own)} ({', '.join(dict.fromkeys(own))})"
        for (name, placed), own in zip(found, kinds, strict=True)
        if own
    )
