"""Latency of folded networks against the plain `torch.onnx.export` file, interleaved, with intervals.

    python scripts/bench_zoo.py [--provider cpu|cuda] [--cuda-graph] [--batch 1] [--threads 1] [--budget 10] [--jobs 1]
                                [--json FILE] [--markdown benchmarks/FILE.md] [--picture FILE.svg] [NAME ...]

NAME is a network of timm, or one of scripts/common/patterns.py; without names, the list of scripts/fold_zoo.py. The
plain file is what `torch.onnx.export(..., dynamo=True)` writes by default, its own optimizations included; both files
run at ONNX Runtime's full graph optimization. With --cuda-graph, each pair is measured with CUDA graphs, too. The files
are written after every network, so that an interrupt loses none, and networks that --json FILE has already are not
measured again: the same command goes on where it ended. --jobs exports in so many processes, all networks before the
first is measured. A network that fails is named, the others are measured, and the exit code is 1. On CUDA another
process measures, which may die; no file is started alone (`load_ms`, `first_ms` and `peak_mb` are null). On a machine
with a GPU:

    python scripts/bench_zoo.py --provider cuda --cuda-graph --batch 1 32 --markdown benchmarks/cuda.md
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir
import torch
from bench.page import headings, markdown, named_ratios, plain_line, rows
from common.networks import TIMM, build, calibrate, randomise, source_of
from common.patterns import PATTERNS
from onnxscript import optimizer

from bnfold.benchmarking import Axes, bench_files
from bnfold.errors import BnfoldError, InputRefused
from bnfold.export import finish, plain_graph
from bnfold.folding import fold_model
from bnfold.records import as_json
from bnfold.report import write_picture
from bnfold.runtime import environment, run_probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bnfold.sources import TorchSource

SAME = ("cpu", "gpu", "onnxruntime", "onnxruntime_build", "provider")  # of networks in one table


def write_pair(name: str, folder: Path) -> tuple[Path, Path]:
    """The folded and the plain file of a network, in a folder that is made."""
    module, inputs = build(name)
    randomise(module, "positive", seed=1)
    calibrate(module, inputs)
    return write_files(source_of(name, module, inputs), folder)


def write_files(source: TorchSource, folder: Path) -> tuple[Path, Path]:
    """The folded and the plain file of a source, in a folder that is made."""
    model = plain_graph(source)
    plain = ir.from_proto(ir.to_proto(model))
    optimizer.optimize(plain)
    fold_model(model)
    folder.mkdir()
    paths = folder / "folded.onnx", folder / "plain.onnx"
    for proto, path in zip((finish(model), ir.to_proto(plain)), paths, strict=True):
        onnx.save(proto, path)
    return paths


def pairs(names: Sequence[str], folder: Path, jobs: int) -> Iterator[tuple[str, Callable[[], tuple[Path, Path]]]]:
    """Each name with what gives its files, or raises: written when they are asked for, or all before, in processes."""
    if jobs == 1:
        yield from ((name, partial(write_pair, name, folder / name)) for name in names)
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        futures = [(name, pool.submit(write_pair, name, folder / name)) for name in names]
    yield from ((name, future.result) for name, future in futures)


class Isolated:
    """A process that works, replaced after a failure: an error of CUDA lasts as long as its process, or ends it."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def __call__(self, work: Callable[..., Any], *values: Any) -> Any:
        """What `work` gives for the values in that process, or its error.

        Raises:
            BrokenProcessPool: the process died.
        """
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        try:
            return self._pool.submit(work, *values).result()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def compare(files: tuple[Path, Path], options: dict[str, Any]) -> dict[str, Any]:
    """The report of the two files of a network."""
    axes = Axes(
        provider=options["provider"], threads=options["threads"], cuda_graph=options["cuda_graph"],
        batch=options["batches"],
    )  # fmt: skip
    measured = bench_files(files, axes, cold_starts=options["cold_starts"], budget_s=options["budget_s"])
    report: dict[str, Any] = as_json(measured)
    return report


def measure(files: tuple[Path, Path], options: dict[str, Any], run: Callable[..., Any]) -> dict[str, Any]:
    """Compare the two files of a network; without CUDA graphs, and with the reason, where a file makes none."""
    try:
        report: dict[str, Any] = run(compare, files, options)
    except (InputRefused, BrokenProcessPool) as error:
        if not options["cuda_graph"]:
            raise
        report = run(compare, files, {**options, "cuda_graph": False})
        report["no_cuda_graph"] = "the process died"
        if isinstance(error, InputRefused):
            report["no_cuda_graph"] = f"{Path(error.where or '').stem}: {error.found or error.what}"
    return report


def earlier(path: Path | None, options: dict[str, Any]) -> dict[str, Any]:
    """The reports of an earlier run of the same command on the same machine, none where there was no run.

    Raises:
        InputRefused: they are of another machine, or of other options.
    """
    if path is None or not path.is_file():
        return {}
    reports: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    now = environment(options["provider"])
    for name, report in reports.items():
        cells = {(ratio["batch"], ratio["threads"]) for ratio in report["ratios"]}
        then = {key: report["environment"].get(key) for key in SAME}
        if then != {key: now.get(key) for key in SAME} or cells != {
            (b, options["threads"]) for b in options["batches"]
        }:
            raise InputRefused(
                "the table holds measurements of another machine, or with other options", where=f"{path}, {name}",
                remedy="name another file with --json, or remove it",
            )  # fmt: skip
    return reports


def write(arguments: argparse.Namespace, reports: dict[str, Any], failures: dict[str, str]) -> None:
    """Write the files that were asked for."""
    if not reports:
        return
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(reports, indent=1) + "\n", encoding="utf-8")
    if arguments.markdown is not None:
        command = f"python scripts/bench_zoo.py {' '.join(sys.argv[1:])}"
        arguments.markdown.write_text(markdown(command, reports, failures), encoding="utf-8")
    if arguments.picture is not None:
        write_picture({"ratios": named_ratios(reports), "runs": []}, arguments.picture)


def bench_all(
    arguments: argparse.Namespace, options: dict[str, Any], run: Callable[..., Any], show: Callable[[str], None]
) -> dict[str, str]:
    """Measure the networks that are not measured yet, and write the files after each; why others were not, by name."""
    on_cuda = arguments.provider == "cuda"
    reports = earlier(arguments.json, options)
    failures: dict[str, str] = {}
    show(plain_line(headings(on_cuda=on_cuda), on_cuda=on_cuda))
    names = [name for name in arguments.names if name not in reports]
    with tempfile.TemporaryDirectory(prefix="bnfold-") as folder:
        for name, files in pairs(names, Path(folder), arguments.jobs):
            try:
                reports[name] = measure(files(), options, run)
            except Exception as error:  # noqa: BLE001  # whatever it is, the other networks are measured
                failures[name] = " ".join(f"{type(error).__name__}: {error}".split())
                show(f"{name}  not measured, {failures[name]}")
            else:
                for line in rows(name, reports[name], on_cuda=on_cuda):
                    show(plain_line(line, on_cuda=on_cuda))
            write(arguments, reports, failures)
    return failures


def here(work: Callable[..., Any], *values: Any) -> Any:
    """What `work` gives for the values, in this process."""
    return work(*values)


def say(text: str) -> None:
    """Print a line at once: a pipe may be all that is left of an interrupted run."""
    print(text, flush=True)


def main(show: Callable[[str], None] = say) -> None:
    """Measure, print the table, and write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[*PATTERNS, *TIMM])
    parser.add_argument("--provider", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--cuda-graph", action="store_true")
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--budget", type=float, default=10.0, help="seconds per network")
    parser.add_argument("--jobs", type=int, default=1, help="processes that export, before anything is measured")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    options = {
        "provider": arguments.provider,
        "cuda_graph": arguments.cuda_graph,
        "cold_starts": arguments.provider == "cpu",
        "threads": arguments.threads,
        "batches": tuple(arguments.batch),
        "budget_s": arguments.budget,
    }
    isolated = Isolated()
    run = isolated if arguments.provider == "cuda" else here
    try:
        run(run_probe, arguments.provider)  # before minutes of exporting
        failures = bench_all(arguments, options, run, show)
    except BnfoldError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    finally:
        isolated.close()
    if failures:
        sys.exit(f"error: {len(failures)} networks were not measured: {', '.join(failures)}")


if __name__ == "__main__":
    main()
