"""Latency of folded networks against the plain `torch.onnx.export` file, interleaved, with intervals.

    python scripts/bench_zoo.py [--provider cpu|cuda] [--batch 1] [--threads 1] [--budget 10] [--json FILE] [NAME ...]

NAME is a network of timm, or one of scripts/pattern_networks.py; without names, the list of scripts/fold_zoo.py. The
plain file is what `torch.onnx.export(..., dynamo=True)` writes by default, its own optimizations included; both files
run at ONNX Runtime's full graph optimization.
"""

from __future__ import annotations

import argparse
import json
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

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnfold.records import BenchReport

ROW = "{:18} {:>5} {:>10} {:>10} {:>7} {:>16} {:>7}"


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


def main(show: Callable[[str], None] = print) -> None:
    """Measure, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[*PATTERNS, *TIMM])
    parser.add_argument("--provider", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budget", type=float, default=10.0, help="seconds per network")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    options = {
        "provider": arguments.provider,
        "threads": arguments.threads,
        "batches": tuple(arguments.batch),
        "budget_s": arguments.budget,
    }
    show(ROW.format("network", "batch", "plain ms", "folded ms", "ratio", "99 % interval", ""))
    reports = {}
    for name in arguments.names:
        report = measure(name, options)
        reports[name] = as_json(report)
        medians = {(run.name, run.batch): run.median_ms for run in report.runs}
        for ratio in report.ratios:
            plain, folded = (f"{medians[which, ratio.batch]:.3f}" for which in ("plain", "folded"))
            interval = f"{ratio.low:.3f} to {ratio.high:.3f}"
            show(ROW.format(name, ratio.batch, plain, folded, f"{ratio.ratio:.3f}", interval, ratio.verdict))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(reports, indent=1) + "\n")


if __name__ == "__main__":
    main()
