"""`bnfold bundle FILE --target T -o DIR`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bnfold.cli.options import (
    dim_options,
    input_shape_option,
    json_option,
    seed_option,
    threads_option,
    verbosity_options,
)
from bnfold.cli.parameter_types import NamedPath
from bnfold.runtime.providers import provider_names
from bnfold.workflows.arguments import MAX_BATCH, TARGETS

if TYPE_CHECKING:
    from bnfold.records.bundle import BundleReport

__all__ = ["command"]


@click.command(name="bundle")
@click.argument("file", type=NamedPath())
@click.option(
    "--target", type=click.Choice(TARGETS), required=True,
    help="onnxruntime: an HTTP server; triton: a model repository; web: a page with onnxruntime-web.",
)  # fmt: skip
@click.option("-o", "--output", required=True, type=NamedPath(), metavar="DIR", help="Folder for the bundle.")
@click.option("--name", metavar="NAME", help="Of the model on the target.  [default: that of FILE]")
@click.option(
    "--golden", type=NamedPath(file_okay=False), metavar="DIR",
    help="Golden values of fold-export --golden.  [default: golden beside FILE, if it is of FILE; else made of FILE]",
)  # fmt: skip
@click.option(
    "--inputs", type=NamedPath(), metavar="FILE.npz|FOLDER",
    help="Make golden values of these samples: arrays by input name, or a folder of images.",
)  # fmt: skip
@click.option(
    "--session", type=NamedPath(), metavar="FILE",
    help="The session.json of bnfold tune.  [default: ONNX Runtime's own options, threads of the machine]",
)  # fmt: skip
@click.option(
    "--bench", type=NamedPath(), metavar="FILE",
    help="A report of bnfold bench --batch 1,2,4,... --json, by which batching is chosen.",
)  # fmt: skip
@click.option(
    "--provider", type=click.Choice(provider_names()), default=None,
    help="Where the file is served.  [default: the session's, or cpu]",
)  # fmt: skip
@click.option(
    "--max-batch", type=click.IntRange(1, MAX_BATCH), metavar="N",
    help="The largest batch that is served.  [default: the largest of --bench, or 8]",
)  # fmt: skip
@click.option(
    "--instances", type=click.IntRange(1, MAX_BATCH), default=1, show_default=True, metavar="N",
    help="Sessions side by side.",
)  # fmt: skip
@click.option(
    "--web-runtime", type=NamedPath(file_okay=False), metavar="DIR",
    help="Target web: the folder of the npm package onnxruntime-web.",
)  # fmt: skip
@click.option("--download", is_flag=True, help="Target web: fetch that package with npm.")
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@input_shape_option
@dim_options
@threads_option
@seed_option
@json_option
@verbosity_options
def command(file: Path, target: str, output: Path, *, json_file: str | None, **options: Any) -> None:
    """Write what is needed to serve the .onnx FILE, with golden values and a check that runs there.

    FILE is judged by the golden values first. The bundle needs nothing of bnfold; its README.md has the line that
    starts it. The same arguments give the same bytes.
    """
    from bnfold.report import write_json
    from bnfold.workflows.bundle_file import bundle

    options["input_shapes"] = options["input_shapes"] or None
    report = bundle(file, target, output, **options)
    if json_file is not None:
        write_json(report, json_file)
    if json_file != "-":
        _echo(report, output)


def _echo(report: BundleReport, output: Path) -> None:
    from bnfold.report.bundle_lines import settings_lines

    golden = report.golden
    click.echo(f"{report.n_bytes:,} bytes in {len(report.files)} files and manifest.json")
    click.echo(f"golden values: {golden.reference}, of {golden.source}; {golden.n_compared:,} values compared here")
    for line in settings_lines(report.settings):
        click.echo(line)
    for note in report.notes:
        click.echo(f"warning: {note}")
    click.echo(str(output / "README.md"))
