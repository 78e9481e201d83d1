"""Latency of folded networks against the plain `torch.onnx.export` file, interleaved, with intervals.

    python scripts/bench_zoo.py [--provider cpu|cuda] [--cuda-graph] [--batch 1] [--threads 1] [--budget 10]
                                [--json FILE] [--markdown benchmarks/FILE.md] [--picture FILE.svg] [NAME ...]

NAME is a network of timm, or one of scripts/pattern_networks.py; without names, the list of scripts/fold_zoo.py. The
plain file is what `torch.onnx.export(..., dynamo=True)` writes by default, its own optimizations included; both files
run at ONNX Runtime's full graph optimization. With --cuda-graph, each pair is measured with CUDA graphs, too. The files
are written after every network, so that an interrupt loses none. On a machine with a GPU:

    python scripts/bench_zoo.py --provider cuda --cuda-graph --batch 1 32 --markdown benchmarks/cuda.md
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir
from fold_zoo import TIMM, build, calibrate, randomise, source_of
from onnxscript import optimizer
from pattern_networks import PATTERNS

from bnfold.benchmarking import bench_files
from bnfold.export import finish, plain_graph
from bnfold.folding import fold_model
from bnfold.records import as_json
from bnfold.report import write_picture

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnfold.records import BenchRatio, BenchReport

ROW = "{:18} {:>5} {:>5} {:>10} {:>10} {:>7} {:>16} {:>7}"
HEADINGS = ("network", "batch", "graph", "plain ms", "folded ms", "ratio", "99 % interval", "verdict")
FACTS = (
    "cpu", "gpu", "n_cpus", "threads", "memory_mb", "os", "python", "onnxruntime_build", "onnxruntime", "torch",
    "provider_options", "tf32", "interval_level", "budget_s",
)  # fmt: skip


def write_pair(name: str, folder: Path) -> tuple[Path, Path]:
    """The folded and the plain file of a network."""
    module, inputs = build(name)
    randomise(module, "positive", seed=1)
    calibrate(module, inputs)
    model = plain_graph(source_of(name, module, inputs))
    plain = ir.from_proto(ir.to_proto(model))
    optimizer.optimize(plain)
    fold_model(model)
    paths = folder / "folded.onnx", folder / "plain.onnx"
    for proto, path in zip((finish(model), ir.to_proto(plain)), paths, strict=True):
        onnx.save(proto, path)
    return paths


def measure(name: str, options: dict[str, Any]) -> BenchReport:
    """Compare the two files of a network."""
    with tempfile.TemporaryDirectory() as folder:
        return bench_files(write_pair(name, Path(folder)), **options)


def rows(name: str, report: BenchReport) -> list[tuple[str, ...]]:
    """The cells of a network's lines, one for each ratio."""
    medians = {(run.name, run.batch, run.cuda_graph): run.median_ms for run in report.runs}
    return [
        (
            name,
            str(ratio.batch),
            "yes" if ratio.cuda_graph else "no",
            *(f"{medians[which, ratio.batch, ratio.cuda_graph]:.3f}" for which in ("plain", "folded")),
            f"{ratio.ratio:.3f}",
            f"{ratio.low:.3f} to {ratio.high:.3f}",
            verdict(ratio),
        )
        for ratio in report.ratios
    ]


def named_ratios(reports: dict[str, Any]) -> list[dict[str, Any]]:
    """The ratios of all networks, each under the network's name, without the shapes of its inputs."""
    return [{**ratio, "a": name, "input_shapes": {}} for name, report in reports.items() for ratio in report["ratios"]]


def verdict(ratio: BenchRatio) -> str:
    """The verdict, with the reason where no winner was named."""
    return f"{ratio.verdict} ({ratio.note})" if ratio.note else ratio.verdict


def markdown(lines: list[tuple[str, ...]], reports: dict[str, Any]) -> str:
    """The table and what it depends on."""
    facts = next(iter(reports.values()))["environment"]
    text = ["# Folded networks against the plain export", "", f"`python scripts/bench_zoo.py {' '.join(sys.argv[1:])}`"]
    text += ["", "Ratios are time(folded) / time(plain), from interleaved runs; random weights, calibrated statistics."]
    text += ["", "| " + " | ".join(HEADINGS) + " |", "|---|---:|---|---:|---:|---:|---:|---|"]
    text += ["| " + " | ".join(line) + " |" for line in lines]
    text += ["", "| environment | |", "|---|---|"]
    text += [f"| {key} | {json.dumps(facts[key]) if isinstance(facts[key], dict) else facts[key]} |"
             for key in FACTS if facts.get(key) is not None]  # fmt: skip
    noisy = [name for name, report in reports.items() if report["environment"]["noise"] == "noisy"]
    text += ["", f"Noisy while measured: {', '.join(noisy) or 'none'}."]
    return "\n".join(text) + "\n"


def main(show: Callable[[str], None] = print) -> None:
    """Measure, print the table, and write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[*PATTERNS, *TIMM])
    parser.add_argument("--provider", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--cuda-graph", action="store_true")
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budget", type=float, default=10.0, help="seconds per network")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    options = {
        "provider": arguments.provider,
        "cuda_graph": arguments.cuda_graph,
        "threads": arguments.threads,
        "batches": tuple(arguments.batch),
        "budget_s": arguments.budget,
    }
    show(ROW.format(*HEADINGS))
    reports: dict[str, Any] = {}
    lines: list[tuple[str, ...]] = []
    for name in arguments.names:
        report = measure(name, options)
        reports[name] = as_json(report)
        lines += rows(name, report)
        for line in rows(name, report):
            show(ROW.format(*line))
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(reports, indent=1) + "\n", encoding="utf-8")
        if arguments.markdown is not None:
            arguments.markdown.write_text(markdown(lines, reports), encoding="utf-8")
        if arguments.picture is not None:
            write_picture({"ratios": named_ratios(reports), "runs": []}, arguments.picture)


if __name__ == "__main__":
    main()
