"""`bnfold tune FILE [FILE ...]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bnfold.cli.options import (
    dim_option,
    input_shape_option,
    json_option,
    provider_option,
    seed_option,
    verbosity_options,
)
from bnfold.cli.outputs import require_writable
from bnfold.cli.parameter_types import NamedPath
from bnfold.cli.quantities import Seconds
from bnfold.workflows.arguments import MAX_BATCH, MAX_THREADS

__all__ = ["command"]


@click.command(name="tune")
@click.argument("files", metavar="FILE [FILE ...]", nargs=-1, required=True, type=NamedPath())
@click.option(
    "-o", "--output", type=NamedPath(), metavar="FILE",
    help="Where the settings are written, of all files together.  [default: session.json beside the first file]",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Replace an existing session file.")
@provider_option
@click.option(
    "--threads", type=click.IntRange(min=1, max=MAX_THREADS), default=None, metavar="N",
    help="The most threads of one operator.  [default: the CPUs this process may use]",
)  # fmt: skip
@click.option(
    "--batch", type=click.IntRange(1, MAX_BATCH), default=1, show_default=True, metavar="N", help="The batch size."
)
@click.option(
    "--mode", type=click.Choice(["latency", "throughput"]), default="latency", show_default=True,
    help="One request after the other, or several at a time.",
)  # fmt: skip
@click.option(
    "--concurrency", type=click.IntRange(min=1, max=MAX_THREADS), metavar="N",
    help="Requests that run at the same time, with --mode throughput.  [default: the CPUs this process may use]",
)  # fmt: skip
@click.option(
    "--allow-tf32", is_flag=True, help="On a GPU, let float32 be rounded to TF32 where that passes the proof."
)
@click.option(
    "--inputs", type=NamedPath(), default=None, metavar="FILE.npz|FOLDER",
    help="Real samples to compare the numbers of sessions on.",
)  # fmt: skip
@input_shape_option
@dim_option()
@click.option(
    "--budget", "budget_s", type=Seconds(), default=60.0, show_default="60s", metavar="TIME",
    help="Time to measure each file, about; proofs of options that change numbers come on top.",
)  # fmt: skip
@click.option(
    "--cold-starts/--no-cold-starts", default=True, show_default=True,
    help="Start fresh processes too, and try graphs that are optimized offline.",
)  # fmt: skip
@seed_option
@json_option
@verbosity_options
def command(files: tuple[Path, ...], output: Path | None, json_file: str | None, **options: Any) -> None:
    """Find the session and provider options that are fastest for FILE on this machine.

    Writes session.json, which bench, evaluate and verify take as --session, and prints the lines that set it in Python,
    C++ and Triton. What is not faster by its whole interval is not recommended; the default wins a tie.
    """
    from bnfold.report import progress_bar, write_json
    from bnfold.report.tune_tables import render_tuning
    from bnfold.workflows.tune import SESSION_NAME, tune

    if options["concurrency"] is not None and options["mode"] == "latency":
        raise click.UsageError("--concurrency wants --mode throughput.")
    target = files[0].parent / SESSION_NAME if output is None else output
    require_writable(target)
    options["input_shapes"] = options["input_shapes"] or None
    with progress_bar("tune") as progress:
        report = tune(*files, output=target, progress=progress, **options)
    if json_file is not None:
        write_json(report, json_file)
    if json_file != "-":
        render_tuning(report)
        click.echo(target)
