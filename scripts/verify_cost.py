"""Print what `bnfold verify` costs: seconds by stage, and peak memory next to the size of the model.

    python scripts/verify_cost.py [NAME ...]
    python scripts/verify_cost.py --large 2.2

NAME is a network of timm, resnet50 without names, with random scales (those that timm starts from are 0 at the end of
each block, and its file would be a fraction of the network). Its folded file is verified once against the PyTorch
network, once against the unfolded `.onnx` file, each in a process of its own. `wall` and `CPU` are seconds; the stages
are wall seconds: `load` and `export` of the source, its `reference` made ready, its answers in `float64` and in its own
precision (`source`), and the rest, which is the `file` under test.

`anonymous` is the peak of the memory that the process allocated (RssAnon in /proc), `resident` that of all its resident
memory, with the pages of mapped files that the system has not dropped. From both, the peak of the same command on a
network of the same kind with next to no parameters (timm's test_resnet on 32 x 32 images) is taken off: that is the
interpreter with its libraries; the loaded source counts. Each is followed by its ratio (`x`) to the folded file.

--large verifies a network of Gemm, BN and ReLU with that many gigabytes of weights in external data, see fold_speed.py.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cost.large import GB, status, write_large

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL = "test_resnet"
WEIGHTS = "weights.safetensors"
STAGES = ("load", "export", "reference", "float64", "source", "file")
ROW = "{:28} {:>6} {:>6}" + " {:>9}" * len(STAGES) + " {:>9} {:>10} {:>6} {:>9} {:>6}"
MB = 10**6


def measured(source: str, candidate: str) -> dict[str, Any]:
    """Verify in this process: the outcome, and seconds of the stages."""
    import bnfold
    from bnfold import export, sources, verification

    seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)

    def timed(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments, **options)
            seconds[stage] += time.perf_counter() - start
            return result

        return call

    def reference_for(*arguments: Any) -> Any:
        reference: Any = original(*arguments)
        reference.evaluate64 = timed("float64", reference.evaluate64)
        reference.executions32 = timed("source", reference.executions32)
        return reference

    original = timed("reference", verification.reference_for)
    patched: Any = (sources, export, verification)
    patched[0].load_source = timed("load", sources.load_source)
    patched[1].plain_graph = timed("export", export.plain_graph)
    patched[2].reference_for = reference_for
    shapes = [(1, 3, 32, 32)] if source == f"timm:{SMALL}" else None
    weights = Path(candidate).with_name(WEIGHTS) if source.startswith("timm:") else None
    start, start_cpu = time.perf_counter(), time.process_time()
    verdict = bnfold.verify(source, candidate, weights=weights, input_shapes=shapes)
    wall, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    seconds["file"] = wall - sum(seconds.values())
    return {"passed": verdict.passed, "failure": verdict.failure, "wall": wall, "cpu": cpu, **seconds}


def write_files(name: str, folder: Path) -> None:
    """The folded and the unfolded file of a network of timm."""
    import onnx_ir as ir
    import timm
    from common.networks import randomise
    from safetensors.torch import save_file

    import bnfold
    from bnfold.export import plain_graph
    from bnfold.sources import load_source

    module = timm.create_model(name)
    randomise(module, "positive", seed=1)
    shapes = [(1, 3, 32, 32)] if name == SMALL else None
    with tempfile.TemporaryDirectory() as made:
        weights = Path(made) / WEIGHTS
        save_file(module.state_dict(), weights)
        report = bnfold.fold_export(
            f"timm:{name}", folder, weights=weights, force=True, input_shapes=shapes, budget_s=0
        )
        source = load_source(f"timm:{name}", weights=weights, input_shapes=shapes)
        shutil.move(weights, folder / WEIGHTS)
    if not report.passed:
        raise SystemExit(f"{name}: {report.verify.failure}")
    ir.save(plain_graph(source), folder / "unfolded.onnx")


def in_process(*arguments: str) -> dict[str, Any]:
    """Run a part of this script in a process of its own: what it prints, and the peaks of its memory in bytes.

    They are read from here: ONNX Runtime keeps the lock of the other interpreter while it loads a file.
    """
    command = [sys.executable, "-W", "ignore", __file__, *arguments]
    peaks: dict[str, int] = {}
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output)
        # What PyTorch touches when the interpreter ends, behind the result, is not of the verification.
        while process.poll() is None and not os.fstat(output.fileno()).st_size:
            status(peaks, process.pid)
            time.sleep(0.005)
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, command)
        output.seek(0)
        return {**json.loads(output.read().splitlines()[-1]), **peaks}


def row(label: str, cost: dict[str, Any], base: dict[str, Any], n_bytes: int) -> str:
    """One verification of the table."""
    memory = {kind: max(cost[kind] - base[kind], 0) for kind in ("RssAnon", "VmRSS")}
    cells = [f"{cost[key]:.1f}" for key in ("wall", "cpu", *STAGES)]
    peaks = [f"{n_bytes / MB:.0f}"]
    for n in memory.values():
        peaks += [f"{n / MB:.0f}", f"{n / n_bytes:.2f}"]
    verdict = "" if cost["passed"] else f"  FAILED: {cost['failure']}"
    return ROW.format(label, *cells, *peaks) + verdict


def small_costs(folder: Path) -> dict[str, dict[str, Any]]:
    """What the libraries take, by kind of source."""
    in_process("--write", SMALL, str(folder))
    sources = {"torch": f"timm:{SMALL}", "onnx": str(folder / "unfolded.onnx")}
    return {kind: in_process("--verify", source, str(folder / "model.onnx")) for kind, source in sources.items()}


def costs(name: str, base: dict[str, dict[str, Any]]) -> None:
    """Print the two rows of a network."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        in_process("--write", name, made)
        candidate = folder / "model.onnx"
        n_bytes = sum(file.stat().st_size for file in folder.glob("model.onnx*"))
        for kind, source in (("torch", f"timm:{name}"), ("onnx", str(folder / "unfolded.onnx"))):
            cost = in_process("--verify", source, str(candidate))
            print(row(f"{name} ({kind})", cost, base[kind], n_bytes), flush=True)


def large(n_bytes: float, base: dict[str, Any]) -> None:
    """Print the row of a network with external data."""
    with tempfile.TemporaryDirectory() as made:
        path = write_large(Path(made), n_bytes)
        in_process("--fold", str(path))
        size = path.with_name("folded.onnx.data").stat().st_size
        cost = in_process("--verify", str(path), str(path.with_name("folded.onnx")))
        print(row(f"{math.ceil(n_bytes / GB * 10) / 10} GB of Gemm-BN-ReLU", cost, base, size), flush=True)


def fold(path: Path) -> None:
    """Fold a file with external data."""
    import onnx_ir as ir

    from bnfold.folding import fold_model

    model = ir.load(path)
    fold_model(model)
    ir.save(model, path.with_name("folded.onnx"), external_data="folded.onnx.data")


def main() -> None:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["resnet50"])
    parser.add_argument("--large", type=float, metavar="GB")
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--fold", help=argparse.SUPPRESS)
    parser.add_argument("--verify", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        write_files(arguments.write[0], Path(arguments.write[1]))
        print("{}")
    elif arguments.fold:
        fold(Path(arguments.fold))
        print("{}")
    elif arguments.verify:
        print(json.dumps(measured(*arguments.verify)), flush=True)
    else:
        with tempfile.TemporaryDirectory() as made:
            base = small_costs(Path(made))
        print(ROW.format("network", "wall", "CPU", *STAGES, "model MB", "anonymous", "x", "resident", "x"), flush=True)
        if arguments.large:
            large(arguments.large * GB, base["onnx"])
        else:
            for name in arguments.names:
                costs(name, base)


if __name__ == "__main__":
    main()
