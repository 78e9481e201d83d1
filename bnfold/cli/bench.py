"""`bnfold bench FILE [FILE ...]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bnfold.cli.options import (
    batch_option,
    input_shape_option,
    json_option,
    provider_option,
    seed_option,
    threads_option,
    verbosity_options,
)

__all__ = ["command"]


@click.command(name="bench")
@click.argument("files", metavar="FILE [FILE ...]", nargs=-1, required=True, type=click.Path(path_type=Path))
@batch_option((1,))
@click.option(
    "--budget", "budget_s", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True, metavar="S",
    help="Seconds of runs at each batch size, for all files together.",
)  # fmt: skip
@input_shape_option
@provider_option
@threads_option
@seed_option
@json_option
@verbosity_options
def command(
    files: tuple[Path, ...], input_shapes: tuple[tuple[int, ...], ...], json_file: str | None, **options: Any
) -> None:
    """Measure .onnx files side by side, in turns; a ratio is time(first file) / time(other file).

    A ratio whose 95 % interval holds 1 is a tie. Put the file you want to know about first:
    bnfold bench folded.onnx plain.onnx
    """
    from bnfold.report import progress_bar, render_bench, write_json
    from bnfold.workflows.benchmark import bench

    with progress_bar("bench") as progress:
        report = bench(*files, input_shapes=input_shapes or None, progress=progress, **options)
    if json_file is not None:
        write_json(report, json_file)
    if json_file != "-":
        render_bench(report)
