"""`bnfold recalibrate RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bnfold.cli.options import json_option, verbosity_options
from bnfold.cli.parameter_types import NamedPath

__all__ = ["command"]


@click.command(name="recalibrate")
@click.argument("run", type=NamedPath())
@click.option(
    "-o", "--output", type=NamedPath(), metavar="RUN",
    help="The new run folder.  [default: RUN-recalibrated]",
)  # fmt: skip
@click.option(
    "--layerwise", is_flag=True,
    help="Layer by layer in forward order: each sees inputs made by recalibrated layers. One pass a BatchNorm.",
)  # fmt: skip
@click.option("--data", metavar="NAME", help="Measure on the training split of this data set.  [default: the run's]")
@click.option(
    "--inputs", type=NamedPath(), metavar="FILE.npz|FOLDER",
    help="Measure on these instead: arrays by input name, as the network reads them, or a folder of images.",
)  # fmt: skip
@click.option(
    "--adapt", is_flag=True,
    help="Mix with the old statistics, for data of another domain (layer by layer). Exit code 1 where accuracy on it, "
    "where there are labels, or the entropy of the predictions gets worse.",
)  # fmt: skip
@click.option("--prior", type=float, metavar="N", help="With --adapt: the old ones count as N samples.  [default: 16]")
@click.option(
    "--samples", "n_samples", type=int, default=2048, show_default=True, metavar="N",
    help="Samples to measure on at most, drawn by what they hold.",
)  # fmt: skip
@click.option("--batch-size", type=click.IntRange(min=2), metavar="N", help="Samples a batch.  [default: the recipe's]")
@click.option("--download", is_flag=True, help="Fetch a data set that is not on this machine.")
@click.option("--dry-run", is_flag=True, help="Print the report of every layer, write nothing.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@json_option
@verbosity_options
def command(run: Path, json_file: str | None, **options: Any) -> None:
    """Measure the running statistics of RUN's BatchNorms again, and say what was wrong with them.

    RUN, a folder of `bnfold train`, stays as it is.
    """
    from bnfold.report import progress_bar, render_recalibration, write_json
    from bnfold.workflows.recalibrate import recalibrate

    with progress_bar("measure") as told:
        report = recalibrate(run, told=told, **options)
    if json_file is not None:
        write_json(report, json_file)
    if json_file != "-":
        render_recalibration(report)
