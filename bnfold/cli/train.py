"""`bnfold train MODEL`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnfold.cli.options import json_option, seed_option, verbosity_options

if TYPE_CHECKING:
    from bnfold.records import TrainReport

__all__ = ["command"]


def _assignments(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """Parse every --set KEY=VALUE."""
    from bnfold.training.recipe import parse_assignment

    try:
        return dict(map(parse_assignment, values))
    except ValueError as error:
        raise click.BadParameter(f"{error}.", ctx, param) from error


@click.command(name="train")
@click.argument("model")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="RUN",
    help="The run folder.  [default: runs/NAME]",
)  # fmt: skip
@click.option("--epochs", type=int, metavar="N", help="Passes over the training split.")
@click.option("--lr", type=float, metavar="X", help="The largest learning rate.")
@click.option("--batch-size", type=int, metavar="N", help="Samples a step.")
@click.option(
    "--precise-bn", is_flag=True, default=None,
    help="End by measuring the BatchNorms' statistics anew, as `bnfold recalibrate` does.",
)  # fmt: skip
@click.option(
    "--freeze-bn-after", type=int, metavar="EPOCH",
    help="From then on the statistics of the BatchNorms stay, and training uses them.",
)  # fmt: skip
@click.option(
    "--l1-gamma", type=float, metavar="X",
    help="Penalty on the gammas of BatchNorms, by which channels become exactly 0; fold-export removes them.",
)  # fmt: skip
@click.option("--data", metavar="NAME", help="The data set.")
@click.option("--download", is_flag=True, help="Fetch the data set if it is not on this machine.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", callback=_assignments,
    help="Any other key of the recipe, for example --set weight_decay=0.1; may be repeated.",
)  # fmt: skip
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="Threads of PyTorch.  [default: the recipe's]")
@seed_option
@click.option("--force", is_flag=True, help="Replace an existing run.")
@json_option
@verbosity_options
def command(model: str, json_file: str | None, **options: Any) -> None:
    """Train MODEL as the RECIPE in its file says; what is given here takes its place.

    MODEL: a name of the zoo (bnnet), or a .py file with INPUT_SHAPE, RECIPE and build().
    """
    from bnfold.report import write_json
    from bnfold.workflows.train_model import train

    report = train(model, **options)
    if json_file is not None:
        write_json(report, json_file)
    if json_file != "-":
        _echo_result(report)


def _echo_result(report: TrainReport) -> None:
    sizes = report.split_sizes
    click.echo(
        f"{report.model}: test {report.goal} {report.metrics['test'][report.goal]:.4f} on {sizes['test']} samples "
        f"(validation {report.metrics['val'][report.goal]:.4f}), {report.n_parameters:,} parameters, seed {report.seed}"
    )
    click.echo(f"{report.run}")
    click.echo(f"next: bnfold fold-export {report.run} -o {report.run / 'export'}")
