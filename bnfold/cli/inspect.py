"""`bnfold inspect SOURCE`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bnfold.cli.options import json_option, source_options, verbosity_options

if TYPE_CHECKING:
    from bnfold.records import Ledger

__all__ = ["command"]


@click.command(name="inspect")
@click.argument("source")
@source_options
@json_option
@verbosity_options
def command(source: str, json_file: str | None, **options: Any) -> None:
    """Show what fold-export would do with each BatchNorm of SOURCE; writes nothing.

    An .onnx file needs neither PyTorch nor ONNX Runtime.
    """
    from bnfold.report import write_json
    from bnfold.workflows.inspect_source import inspect

    options["input_shapes"] = options["input_shapes"] or None
    report = inspect(source, **options)
    if json_file is not None:
        write_json(report, json_file)
    if json_file != "-":
        _echo_ledger(report.ledger)


def _echo_ledger(ledger: Ledger) -> None:
    from rich.console import Console
    from rich.table import Table

    if ledger.entries:
        table = Table("BatchNorm", "outcome", "into, or the reason", "max |s|", "min var/eps", "dead channels")
        for entry in ledger.entries:
            table.add_row(
                entry.name,
                entry.outcome,
                entry.reason or ", ".join(entry.into),
                f"{entry.max_abs_scale:.3g}",
                f"{entry.min_var_over_eps:.3g}",
                str(entry.n_dead_channels),
            )
        Console().print(table)
    counts = ", ".join(f"{getattr(ledger, name)} {name}" for name in ("absorbed", "merged", "removed", "kept"))
    click.echo(f"{ledger.found} found, {counts}")
