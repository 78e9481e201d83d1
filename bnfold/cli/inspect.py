"""`bnfold inspect SOURCE`."""

from __future__ import annotations

from typing import Any

import click

from bnfold.cli.options import dynamic_option, json_option, source_options, verbosity_options

__all__ = ["command"]


@click.command(name="inspect")
@click.argument("source")
@source_options
@dynamic_option
@json_option
@verbosity_options
def command(source: str, json_file: str | None, **options: Any) -> None:
    """Show what fold-export would do with each BatchNorm of SOURCE; writes nothing.

    An .onnx file needs neither PyTorch nor ONNX Runtime.
    """
    from bnfold.report import render_facts, render_ledger, write_json
    from bnfold.workflows.inspect_source import inspect

    options["input_shapes"] = options["input_shapes"] or None
    report = inspect(source, **options)
    if json_file is not None:
        write_json(report, json_file)
    if json_file != "-":
        render_ledger(report.ledger)
        render_facts(report.facts)
