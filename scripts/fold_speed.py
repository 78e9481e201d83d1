"""Print what folding costs next to torch.onnx.export, how it grows with the network, and how much memory it takes.

    python scripts/fold_speed.py [--kinds residual,preactivation,mixer,mixed] [--sizes 1250,2500,5000,10000] [NAME ...]
    python scripts/fold_speed.py --large 2.5

NAME is a network of timm; without names, resnet50 and densenet121. Then come synthetic networks (see
cost/networks.py) of about 1,250 to 10,000 nodes. Times are CPU seconds of this process, so that other work on the
machine does not count; `ratio` is fold over export, and `slope` the exponent with which the fold grew since the next
smaller size: 1 is linear.

`--large GB` writes a network of Gemm, BN and ReLU with that many gigabytes of weights in external data. A process of
its own maps, folds and saves it, once as it is and once with all weights loaded first. Printed are the peaks of its
anonymous memory (what it allocated, from RssAnon in /proc), and of all resident memory, which counts those pages of
the mapped files that the system has not dropped yet; both also relative to the file.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import resource
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import onnx_ir as ir
from cost.large import GB, status, write_large

from bnfold.export.zero_bias import drop_zero_biases
from bnfold.folding import fold_model

TIMM = ("resnet50", "densenet121")
KINDS = ("residual", "preactivation", "mixer", "mixed")
SIZES = (1250, 2500, 5000, 10000)  # nodes
ROW = "{:20} {:>6} {:>6} {:>5} {:>10} {:>8} {:>7} {:>6}"


def export(module: Any, inputs: tuple[Any, ...], input_names: list[str]) -> Any:
    """The graph as torch.onnx.export writes it, unoptimized and with a dynamic batch."""
    import torch

    batch = torch.export.Dim("batch")
    shapes = tuple({0: batch} for _ in inputs)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        program = torch.onnx.export(
            module, inputs, dynamo=True, optimize=False, dynamic_shapes=shapes, input_names=input_names, verify=False
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    return program.model


def network_row(name: str, previous: tuple[int, float] | None) -> tuple[tuple[int, float], str]:
    """Export and fold one network: its nodes and the fold's seconds, and the table's row."""
    import torch
    from common.networks import build, calibrate, names, randomise
    from cost.networks import network

    if ":" in name:
        kind, size = name.split(":")
        torch.manual_seed(0)
        module, inputs = network(kind, int(size)).eval(), tuple(torch.randn(1, 4, 16, 8, 8))
    else:
        module, inputs = build(name)
    randomise(module, "positive", seed=1)
    calibrate(module, inputs)
    start = time.process_time()
    model = export(module, tuple(x[:2] for x in inputs), names(inputs))
    export_s = time.process_time() - start
    drop_zero_biases(model)  # as bnfold.export does before it folds
    n_nodes = len(model.graph)
    fold_s = math.inf
    for copy in (model.clone(), model):
        start = time.process_time()
        ledger = fold_model(copy)
        fold_s = min(fold_s, time.process_time() - start)
    slope = "-" if previous is None else f"{math.log(fold_s / previous[1]) / math.log(n_nodes / previous[0]):.2f}"
    cells = (name, n_nodes, ledger.found, ledger.kept, f"{export_s:.1f}", f"{fold_s:.2f}")
    return (n_nodes, fold_s), ROW.format(*cells, f"{100 * fold_s / export_s:.1f} %", slope)


def speed(names: list[str], kinds: list[str], sizes: list[int]) -> None:
    """Print the table of times."""
    network_row("mixed:20", None)  # what is imported and compiled once
    print(ROW.format("network", "nodes", "found", "kept", "export CPU", "fold CPU", "ratio", "slope"))
    for name in names:
        print(network_row(name, None)[1], flush=True)
    for kind in kinds:
        previous = None
        for size in sizes:
            previous, text = network_row(f"{kind}:{size}", previous)
            print(text, flush=True)


def large(n_bytes: float) -> None:
    """Fold a file of external data in processes of their own, and print the peaks of their memory."""
    with tempfile.TemporaryDirectory() as name:
        path = write_large(Path(name), n_bytes)
        for how in ("mapped", "loaded"):
            subprocess.run([sys.executable, __file__, "--fold-file", str(path), how], check=True)


def fold_file(path: Path, how: str) -> None:
    """Map or load, fold and save a file with external data; print this process's peaks."""
    n_bytes = path.with_name(f"{path.name}.data").stat().st_size
    peaks: dict[str, int] = {}
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(peaks, done))
    status(peaks)
    before = peaks["RssAnon"]
    watcher.start()
    start = time.process_time()
    model = ir.load(path)
    if how == "loaded":
        ir.external_data.load_to_model(model)
    ledger = fold_model(model)
    ir.save(model, path.with_name("folded.onnx"), external_data="folded.onnx.data")
    done.set()
    watcher.join()
    anonymous, resident = peaks["RssAnon"] - before, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    written = path.with_name("folded.onnx.data").stat().st_size
    print(
        f"{how}: {ledger.absorbed} of {ledger.found} BatchNorms absorbed in {time.process_time() - start:.1f} CPU s, "
        f"file {n_bytes / GB:.2f} GB, written {written / GB:.2f} GB; peaks: anonymous {anonymous / GB:.2f} GB "
        f"({anonymous / n_bytes:.2f} x), resident {resident / GB:.2f} GB ({resident / n_bytes:.2f} x)"
    )


def _watch(peaks: dict[str, int], done: threading.Event) -> None:
    while not done.wait(0.005):
        status(peaks)


def main() -> None:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(TIMM))
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--sizes", default=",".join(str(size) for size in SIZES))
    parser.add_argument("--large", type=float, metavar="GB", help="fold external data of this size instead")
    parser.add_argument("--fold-file", nargs=2, metavar=("FILE", "HOW"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fold_file:
        fold_file(Path(arguments.fold_file[0]), arguments.fold_file[1])
    elif arguments.large:
        large(arguments.large * GB)
    else:
        warnings.filterwarnings("ignore", module="torch")  # the exporter's own
        kinds = [kind for kind in arguments.kinds.split(",") if kind]
        speed(arguments.names, kinds, [int(size) for size in arguments.sizes.split(",") if size])


if __name__ == "__main__":
    main()
