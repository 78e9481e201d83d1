"""`bnfold predict FILE IMAGE|FOLDER ...`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from bnfold.cli.options import (
    json_option,
    metadata_options,
    provider_option,
    source_options,
    threads_option,
    verbosity_options,
)
from bnfold.cli.parameter_types import NamedPath

__all__ = ["command"]


@click.command(name="predict")
@click.argument("file", metavar="FILE|SOURCE")
@click.argument("images", metavar="IMAGE|FOLDER ...", nargs=-1, required=True, type=NamedPath())
@click.option(
    "--top", type=click.IntRange(min=1), default=5, show_default=True, metavar="N", help="Classes of an image."
)
@click.option(
    "--pictures",
    type=NamedPath(file_okay=False),
    metavar="DIR",
    help="Draw masks and boxes into pictures in this folder.",
)
@click.option(
    "--task", type=click.Choice(["classification", "segmentation", "detection"]),
    help="What the network is for.  [default: what the file says]",
)  # fmt: skip
@metadata_options
@source_options
@provider_option
@threads_option
@json_option
@verbosity_options
def command(file: str, images: tuple[Path, ...], json_file: str | None, **options: Any) -> None:
    """Say what is in images, in the class names and with the preprocessing that FILE carries.

    --json writes one line for each image.
    """
    from bnfold.records import as_json
    from bnfold.report import render_predictions, write_bytes
    from bnfold.workflows.predict import predict

    options["input_shapes"] = options["input_shapes"] or None
    found = predict(file, *images, **options)
    lines = "".join(json.dumps(as_json(own), ensure_ascii=False) + "\n" for own in found)
    if json_file == "-":
        click.echo(lines, nl=False)
        return
    if json_file is not None:
        write_bytes(lines.encode(), Path(json_file))
    render_predictions(found)
