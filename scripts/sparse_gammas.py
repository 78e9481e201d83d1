"""What channels of gamma 0 are worth: accuracy, parameters, multiply-adds and latency before and after.

    python scripts/sparse_gammas.py [--model vgg_bn] [--l1-gamma 0.4] [--epochs 30] [--seed 0] [--parent CHECKOUT]
    python scripts/sparse_gammas.py --model scripts/vgg_wide.py

Trains the network as its recipe says, and again with the penalty; folds both, proves the files equal to their networks,
and measures them side by side. The third row is the sparse network as the exporter writes it, its dead channels in it.
With `--parent`, the folder of another commit of bnfold, that commit folds the sparse network too, for a fourth row.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx
from rich import box
from rich.console import Console
from rich.table import Table

import bnfold
from bnfold.export import count_macs
from bnfold.records import FoldExportReport, TrainReport
from bnfold.records.verdicts import verdict_in_words
from bnfold.sources.checkpoint import read_run


def n_parameters(file: Path) -> int:
    """The elements of all floating-point initializers of a file."""
    floating = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16)
    tensors = onnx.load(file).graph.initializer
    return sum(math.prod(tensor.dims) for tensor in tensors if tensor.data_type in floating)


def channels(run: Path) -> tuple[int, int]:
    """How many channels of all BatchNorms have a gamma other than 0, and how many there are."""
    state = read_run(run).state
    gammas = [
        tensor
        for name, tensor in state.items()
        if name.endswith(".weight") and f"{name.removesuffix('weight')}running_var" in state
    ]
    return sum(int((gamma != 0).sum()) for gamma in gammas), sum(gamma.numel() for gamma in gammas)


def trained_and_folded(
    name: str, folder: Path, *, epochs: int | None, seed: int, l1_gamma: float
) -> tuple[TrainReport, FoldExportReport]:
    """One network, trained with a penalty or without (0), folded and proven equal."""
    trained = bnfold.train(name, folder / "run", epochs=epochs, seed=seed, l1_gamma=l1_gamma)
    return trained, bnfold.fold_export(folder / "run", folder / "out", keep_plain=True, budget_s=0)


def folded_by(checkout: Path, run: Path, folder: Path) -> Path:
    """The file that another commit of bnfold makes of a run, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
    command = [sys.executable, "-m", "bnfold", "fold-export", str(run.resolve()), "-o", str(folder.resolve())]
    subprocess.run([*command, "--quiet"], env=environment, cwd=checkout, check=True, stdout=subprocess.DEVNULL)
    return folder / "model.onnx"


def n_multiply_adds(file: Path) -> str:
    """The multiply-adds of a file at batch 1, with their thousands apart."""
    macs = count_macs(onnx.load(file))
    return "-" if macs is None else f"{macs:,}"


def main() -> None:
    """Train, fold, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vgg_bn", metavar="NAME")
    parser.add_argument("--l1-gamma", type=float, default=0.4, metavar="X")
    parser.add_argument("--epochs", type=int, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="batch size of the latencies")
    parser.add_argument("--parent", type=Path, metavar="DIR", help="checkout of a commit to compare with")
    parser.add_argument("--budget", type=float, default=15.0, metavar="SECONDS", help="seconds of measuring")
    arguments = parser.parse_args()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in ("network", "test accuracy", "channels", "parameters", "multiply-adds", "median µs"):
        table.add_column(column, justify="left" if column == "network" else "right")
    with tempfile.TemporaryDirectory() as place:
        dense, sparse = Path(place) / "dense", Path(place) / "sparse"
        results = {
            folder: trained_and_folded(
                arguments.model, folder, epochs=arguments.epochs, seed=arguments.seed, l1_gamma=penalty
            )
            for folder, penalty in ((dense, 0.0), (sparse, arguments.l1_gamma))
        }
        files = {
            "sparse, folded, dead channels removed": (sparse, sparse / "out" / "model.onnx"),
            "dense, folded": (dense, dense / "out" / "model.onnx"),
            "sparse, as exported by default": (sparse, sparse / "out" / "plain.onnx"),
        }
        if arguments.parent is not None:
            other = folded_by(arguments.parent, sparse / "run", sparse / "parent")
            files["sparse, folded by the parent"] = (sparse, other)
        timing = bnfold.bench(
            *(file for _, file in files.values()),
            names=list(files),
            batch=arguments.batch,
            threads=1,
            budget_s=arguments.budget,
        )
        medians = [run.median_ms for run in timing.runs]
        for (name, (folder, file)), median_ms in zip(files.items(), medians, strict=True):
            report, _ = results[folder]
            left, all_channels = channels(folder / "run")
            table.add_row(
                name,
                f"{report.metrics['test'][report.goal]:.4f}",
                f"{left} of {all_channels}",
                f"{n_parameters(file):,}",
                n_multiply_adds(file),
                f"{median_ms * 1000:.1f}",
            )
    Console(width=120, markup=False, highlight=False).print(table)
    print(
        f"{arguments.model}, l1_gamma {arguments.l1_gamma:g}; latency at batch {arguments.batch} on 1 thread; "
        "the folded files are proven equal to their networks"
    )
    for layer in results[sparse][1].removed_channels:
        print(f"dead channels removed from {layer.layer}: {layer.n_before} to {layer.n_after}")
    for ratio in timing.ratios:
        interval = f"{ratio.low:.3f} to {ratio.high:.3f}"
        print(f"time ratio {ratio.a} / {ratio.b}: {ratio.ratio:.3f} ({interval}), {verdict_in_words(vars(ratio))}")
    for note in dict.fromkeys(ratio.note for ratio in timing.ratios if ratio.note):
        print(note)


if __name__ == "__main__":
    main()
