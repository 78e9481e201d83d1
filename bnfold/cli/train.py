"""`bnfold train MODEL`."""

from __future__ import annotations

import os
from typing import Any

import click

from bnfold.cli.options import json_option, seed_option, verbosity_options
from bnfold.cli.parameter_types import NamedPath
from bnfold.records import TrainPlan, TrainReport
from bnfold.training.devices import DEVICES
from bnfold.workflows.arguments import MAX_THREADS

__all__ = ["command"]

_NOT_PLANNED = ("device", "checkpoint_every", "tensorboard")


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
    "-o", "--output", type=NamedPath(), metavar="RUN",
    help="The run folder.  [default: runs/NAME]",
)  # fmt: skip
@click.option("--epochs", type=int, metavar="N", help="Passes over the training split.")
@click.option("--lr", type=float, metavar="X", help="The largest learning rate.")
@click.option("--batch-size", type=int, metavar="N", help="Samples a step.")
@click.option(
    "--precise-bn", is_flag=True, default=None,
    help="End by measuring the BatchNorms' statistics again, as `bnfold recalibrate` does.",
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
@click.option(
    "--threads", type=click.IntRange(min=1, max=MAX_THREADS), metavar="N",
    help="Threads of PyTorch.  [default: the recipe's]",
)  # fmt: skip
@click.option(
    "--device", type=click.Choice(DEVICES), default="cpu", show_default=True,
    help="Where to train; for several GPUs, start with torchrun -m bnfold train ...",
)  # fmt: skip
@seed_option
@click.option("--force", is_flag=True, help="Replace an existing run, and one in progress.")
@click.option("--resume", is_flag=True, help="Go on from the latest checkpoint in RUN.partial, to the same bits.")
@click.option(
    "--checkpoint-every", type=click.IntRange(min=1), metavar="N",
    help="Write a checkpoint after every N steps too, not only after epochs (at most one a second).",
)  # fmt: skip
@click.option("--tensorboard", is_flag=True, help="Write the metrics for TensorBoard too.")
@click.option("--dry-run", is_flag=True, help="Check everything, say what would be trained, and write nothing.")
@json_option
@verbosity_options
def command(model: str, json_file: str | None, *, dry_run: bool, **options: Any) -> None:
    """Train MODEL as the RECIPE in its file says; what is given here takes its place.

    MODEL: a name of the zoo (bnnet), or a .py file with INPUT_SHAPE, RECIPE and build().
    """
    from bnfold.report import write_json
    from bnfold.workflows.train_model import plan, train

    if dry_run:
        planned = {name: value for name, value in options.items() if name not in _NOT_PLANNED}
        result: TrainReport | TrainPlan = plan(model, **planned)
    else:
        result = train(model, **options)
    if os.environ.get("RANK", "0") != "0":  # set by torchrun and accelerate launch: the first process speaks for all
        return
    if json_file is not None:
        write_json(result, json_file)
    if json_file != "-":
        _echo_plan(result) if isinstance(result, TrainPlan) else _echo_result(result)


def _echo_plan(planned: TrainPlan) -> None:
    sizes, recipe = planned.split_sizes, planned.recipe
    done = f", {planned.n_steps_done} of them done" if planned.n_steps_done else ""
    click.echo(
        f"{planned.model}: {planned.n_parameters:,} parameters on {recipe['data']} ({sizes['train']} samples to train, "
        f"{sizes['val']} to validate, {sizes['test']} to test), {recipe['epochs']} epochs of {planned.steps_per_epoch} "
        f"steps of {recipe['batch_size']}{done}, {recipe['optimizer']}, lr {recipe['lr']:g}, seed {planned.seed}"
    )
    click.echo(f"nothing is written; without --dry-run the run would go to {planned.run}")


def _echo_result(report: TrainReport) -> None:
    sizes = report.split_sizes
    click.echo(
        f"{report.model}: test {report.goal} {report.metrics['test'][report.goal]:.4f} on {sizes['test']} samples "
        f"(validation {report.metrics['val'][report.goal]:.4f}), {report.n_parameters:,} parameters, seed {report.seed}"
    )
    click.echo(f"{report.run}")
    click.echo(f"next: bnfold fold-export {report.run} -o {report.run / 'export'}")
