"""`bnfold inspect SOURCE`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from bnfold.cli.options import dynamic_option, json_option, source_options, verbosity_options
from bnfold.cli.outputs import writable
from bnfold.cli.parameter_types import NamedPath

__all__ = ["command"]


@click.command(name="inspect")
@click.argument("source")
@source_options
@dynamic_option
@click.option(
    "--html", type=NamedPath(), metavar="FILE", callback=writable,
    help="Write the network as a drawing, before and after, on a page that opens offline.",
)  # fmt: skip
@json_option
@verbosity_options
def command(source: str, json_file: str | None, html: Path | None, **options: Any) -> None:
    """Show what fold-export would do with each BatchNorm of SOURCE; writes no model.

    On a terminal as a tree of modules; with -v, and in a pipe, as a table with a line for each. An .onnx file needs
    neither PyTorch nor ONNX Runtime.
    """
    from bnfold.report import render_facts, render_ledger, render_outcomes, terminal_height, write_html, write_json
    from bnfold.workflows.inspect_source import inspect

    options["input_shapes"] = options["input_shapes"] or None
    report = inspect(source, **options)
    if json_file is not None:
        write_json(report, json_file)
    if html is not None:
        write_html(report, html)
    if json_file != "-":
        verbose = logging.getLogger("bnfold").isEnabledFor(logging.DEBUG)
        as_tree = terminal_height() is not None and not verbose
        if as_tree:
            render_outcomes(report.ledger)
        render_ledger(report.ledger, table=not as_tree)
        render_facts(report.facts)
        if html is not None:
            click.echo(html)
