"""`bnfold evaluate FILE|SOURCE [FILE ...]`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnfold.cli.options import (
    json_option,
    metadata_options,
    provider_option,
    session_option,
    source_options,
    threads_option,
    verbosity_options,
)
from bnfold.cli.outputs import writable
from bnfold.cli.parameter_types import NamedPath
from bnfold.cli.quantities import Limit, Part
from bnfold.cli.summaries import summary_options, write_summaries
from bnfold.errors import GateFailed
from bnfold.workflows.arguments import MAX_BATCH

if TYPE_CHECKING:
    from bnfold.workflows.evaluate import Evaluation

__all__ = ["command"]


@click.command(name="evaluate")
@click.argument("files", metavar="FILE|SOURCE [FILE ...]", nargs=-1, required=True)
@click.option(
    "--data", metavar="DATA",
    help="Labelled data: digits, folder:PATH, npz:PATH, torchvision:NAME, hf:NAME.  "
    "[default: what the network learnt on]",
)  # fmt: skip
@click.option(
    "--split", type=click.Choice(["train", "val", "test"]), default="test", show_default=True,
    help="Which part of the data, where it has parts.",
)  # fmt: skip
@click.option(
    "--task", type=click.Choice(["classification", "segmentation", "detection", "generation"]),
    help="What the targets are for.  [default: what the file says]",
)  # fmt: skip
@metadata_options
@click.option(
    "--min",
    "least",
    type=Limit(),
    multiple=True,
    help="Exit code 1 if the metric of the first file is below: accuracy=0.94.",
)
@click.option(
    "--max-drop", type=Part(), metavar="0.5%|0.005",
    help="Exit code 1 if the first file is worse than the second by more than this.",
)  # fmt: skip
@click.option(
    "--batch", type=click.IntRange(1, MAX_BATCH), default=64, show_default=True, metavar="N", help="Samples at a time."
)
@source_options
@provider_option
@threads_option
@session_option
@click.option("--download", is_flag=True, help="Fetch data that is not on this machine.")
@click.option(
    "--differences", type=NamedPath(), metavar="FILE", callback=writable,
    help="Write the samples that the files do not say the same of, as JSON lines.",
)  # fmt: skip
@click.option("--html", type=NamedPath(), metavar="FILE", callback=writable, help="Write the report as a page.")
@summary_options
@json_option
@verbosity_options
def command(
    files: tuple[str, ...],
    *,
    least: tuple[tuple[str, float], ...],
    max_drop: float | None,
    differences: Path | None,
    html: Path | None,
    junit: Path | None,
    markdown_file: Path | None,
    json_file: str | None,
    **options: Any,
) -> None:
    """Say how good .onnx files are on labelled data, with 99 % intervals, and how they differ sample by sample.

    The first file is compared with the others: bnfold evaluate model.int8.onnx model.onnx --max-drop 0.5%
    """
    from bnfold.report import progress_bar
    from bnfold.workflows.evaluate import evaluation, write_differences

    if max_drop is not None and len(files) < 2:
        raise click.UsageError("--max-drop compares two files: give the file, and the one that it replaces.")
    options["input_shapes"] = options["input_shapes"] or None
    with progress_bar("evaluate") as progress:
        found = evaluation(*files, least=dict(least), max_drop=max_drop, progress=progress, **options)
    _deliver(found, json_file=json_file, html=html, junit=junit, markdown_file=markdown_file)
    if differences is not None:
        write_differences(found.differences(), differences)
    failed = [gate for gate in found.report.gates if gate.verdict == "failed"]
    if failed:
        raise GateFailed(
            "accuracy below what is allowed", where=failed[0].name,
            found=f"{failed[0].value:.4f} ({failed[0].low:.4f} to {failed[0].high:.4f})",
            expected=f"{failed[0].limit:g}",
            remedy="keep the other file, or find what made this one worse (--differences FILE lists the samples)",
        )  # fmt: skip


def _deliver(
    found: Evaluation, *, json_file: str | None, html: Path | None, junit: Path | None, markdown_file: Path | None
) -> None:
    from bnfold.report import render_evaluation, write_html, write_json
    from bnfold.report.evaluation_summaries import evaluation_junit, evaluation_markdown

    report = found.report
    if json_file is not None:
        write_json(report, json_file)
    if html is not None:
        write_html(report, html, pictures=_pictures(found))
    write_summaries(evaluation_markdown(report), evaluation_junit(report), junit=junit, markdown_file=markdown_file)
    if json_file != "-":
        render_evaluation(report)


def _pictures(found: Evaluation) -> list[bytes]:
    """The worst mistakes as PNG, as the network saw them."""
    from bnfold.evaluation.pictures import as_picture

    pictures = []
    for _, x in found.mistakes():
        picture = as_picture(x, found.preprocessing)
        if picture is None:
            return []
        stream = io.BytesIO()
        picture.save(stream, format="PNG")
        pictures.append(stream.getvalue())
    return pictures
