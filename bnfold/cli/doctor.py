"""`bnfold doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bnfold.cli.options import json_option, provider_option, verbosity_options

if TYPE_CHECKING:
    from bnfold.runtime import Provider

__all__ = ["command"]


@click.command(name="doctor")
@provider_option
@json_option
@verbosity_options
def command(provider: Provider, json_file: str | None) -> None:
    """Check this machine, and print the command that mends what is missing.

    Exit code 0 if it can train, fold-export, verify and bench on the provider, 4 if not.
    """
    from bnfold.report import render_doctor, write_json
    from bnfold.workflows.diagnose import doctor, unable

    report = doctor(provider)
    if json_file is not None:
        write_json(report, json_file)
    if json_file != "-":
        render_doctor(report)
    if not report.able:
        raise unable(report)
