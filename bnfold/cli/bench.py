"""`bnfold bench FILE [FILE ...]`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnfold.cli.bench_options import Names, Seconds, ShapeList, Threads
from bnfold.cli.options import batch_option, json_option, seed_option, verbosity_options

if TYPE_CHECKING:
    from bnfold.records import BenchReport

__all__ = ["command"]


@click.command(name="bench")
@click.argument("files", metavar="FILE [FILE ...]", nargs=-1, required=True, type=click.Path(path_type=Path))
@batch_option((1,))
@click.option(
    "--provider", type=Names("cpu", "cuda"), default="cpu", show_default=True, metavar="cpu|cuda[,...]",
    help="Where ONNX Runtime runs. Exit code 4 where it does not load; never another one instead.",
)  # fmt: skip
@click.option(
    "--threads", type=Threads(), default=None, metavar="N[,N...]",
    help="Threads of one operator.  [default: the CPUs this process may use]",
)  # fmt: skip
@click.option(
    "--opt-level", type=Names("disabled", "basic", "extended", "all"), default="all", show_default=True,
    metavar="LEVEL[,...]", help="How far ONNX Runtime may change the graph: disabled, basic, extended, all.",
)  # fmt: skip
@click.option(
    "--input-shape", "input_shapes", type=ShapeList(), multiple=True, metavar="1xCxHxW[,...]",
    help="Shape of an input, batch first, where it cannot be known; once per input, in their order.",
)  # fmt: skip
@click.option(
    "--budget", "budget_s", type=Seconds(), default=20.0, show_default="20s", metavar="TIME",
    help="Time for everything together, about: 60, 60s, 2m.",
)  # fmt: skip
@seed_option
@json_option
@verbosity_options
def command(
    files: tuple[Path, ...],
    input_shapes: tuple[tuple[tuple[int, ...], ...], ...],
    json_file: str | None,
    **options: Any,
) -> None:
    """Measure .onnx files side by side, in turns; a ratio is time(first file) / time(other file).

    A ratio whose 95 % interval holds 1 is a tie. Put the file you want to know about first:
    bnfold bench folded.onnx plain.onnx

    Options with several values span a grid: --batch 1,8 --threads 1,2 measures four combinations. Ctrl-C prints what
    was measured so far.
    """
    from bnfold.report import progress_bar
    from bnfold.workflows.benchmark import bench

    if len({len(shapes) for shapes in input_shapes}) > 1:
        raise click.UsageError("give equally many shapes in each --input-shape: the n-th ones belong together.")
    so_far: list[BenchReport] = []
    try:
        with progress_bar("bench") as progress:
            report = bench(
                *files, input_shapes=input_shapes or None, progress=progress, partial=so_far.append, **options
            )
    except KeyboardInterrupt:
        for part in so_far:
            _deliver(part, json_file)
        raise
    _deliver(report, json_file)


def _deliver(report: BenchReport, json_file: str | None) -> None:
    """Print and write a report, or what there is of it."""
    from bnfold.report import render_bench, write_json

    if json_file is not None:
        write_json(report, json_file)
    if json_file != "-" and report.runs:
        render_bench(report)
