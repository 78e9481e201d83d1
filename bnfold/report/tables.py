"""Tables on standard output: as wide as the terminal, never a cut or wrapped number; in a pipe one line a row."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from bnfold.records import as_json
from bnfold.report.comparisons import basis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from bnfold.records import DoctorReport, Ledger, RemovedChannels, Verdict

__all__ = [
    "new_table",
    "number",
    "print_table",
    "print_whole",
    "render_doctor",
    "render_ledger",
    "render_removed_channels",
    "render_verdict",
    "say",
    "terminal_height",
    "verdict_facts",
    "verdict_scope",
]

TEXT_WIDTH = 10
_UNLIMITED = 1 << 16
GAP = 3  # between two columns: a blank, the box's place for a line, a blank


def render_ledger(ledger: Ledger, *, table: bool = True) -> None:
    """Print every BatchNorm with what happened to it, the counts, the channels that left, and the warnings.

    Without `table` not the BatchNorms: `bnfold.report.outcome_tree` has them as a tree.
    """
    if ledger.entries and table:
        print_table(_batchnorms(ledger))
    counts = ", ".join(f"{getattr(ledger, name)} {name}" for name in ("absorbed", "merged", "removed", "kept"))
    say(f"BatchNorms: {ledger.found} found, {counts}")
    render_removed_channels(ledger.removed_channels)
    for warning in ledger.warnings:
        say(f"warning: {warning}")


def _batchnorms(ledger: Ledger) -> Table:
    table = new_table("BatchNorm", ["max |s|", "min var/eps", "dead"], text=["outcome", "into, or the reason"])
    for entry in ledger.entries:
        table.add_row(
            entry.name,
            entry.outcome,
            entry.reason or ", ".join(entry.into),
            number(entry.max_abs_scale),
            number(entry.min_var_over_eps),
            str(entry.n_dead_channels),
        )
    return table


def render_removed_channels(removed: Sequence[RemovedChannels]) -> None:
    """Print every layer that writes fewer channels than in the source; nothing where there is none."""
    if removed:
        n_gone = sum(layer.n_before - layer.n_after for layer in removed)
        layers = f"{len(removed)} layer{'' if len(removed) == 1 else 's'}"
        say(f"dead channels: {n_gone:,} removed, of {sum(layer.n_before for layer in removed):,} in {layers}")
    for layer in removed:
        say(f"  {layer.layer}: {layer.n_before} to {layer.n_after}")


def render_verdict(verdict: Verdict) -> None:
    """Print the errors of every output against float64, and the verdict in a sentence."""
    if verdict.outputs:
        table = new_table("output", ["source error", "file error", "allowed"])
        for output in verdict.outputs:
            table.add_row(output.name, *map(_error, (output.e_source, output.e_output, output.allowed)))
        print_table(table)
    if verdict.passed:
        say(f"equal: {verdict_scope(verdict)}")
    else:
        say(f"NOT equal: {verdict.failure or 'no reason given'} ({verdict_scope(verdict)})")
    for fact in verdict_facts(verdict):
        say(fact)


def _error(value: float) -> str:
    return "not compared" if math.isnan(value) else f"{value:.2e}"


def verdict_scope(verdict: Verdict) -> str:
    """How many values were compared, with what, at which batches and where."""
    against = basis(as_json(verdict))
    if not verdict.n_compared:
        return f"no values were compared with {against}"
    batches = f", batches {', '.join(map(str, verdict.batches))}" if verdict.batches else ""
    providers = f" on {', '.join(verdict.providers)}" if verdict.providers else ""
    return f"{verdict.n_compared:,} values against {against}{batches}{providers}"


def verdict_facts(verdict: Verdict) -> list[str]:
    """What else the verdict rests on, and what it leaves open."""
    sizes = [
        f"{name} at {', '.join('x'.join(map(str, row)) for row in rows)}"
        for name, rows in verdict.sizes.items()
        if any(rows)
    ]
    facts = [f"sizes: {'; '.join(sizes)}"] if any(len(rows) > 1 for rows in verdict.sizes.values()) else []
    axes = [f"{name}={size}" for name, size in verdict.dims.items()]
    if axes:
        batch = f"; {verdict.batch_dim} is the batch" if verdict.batch_dim else ""
        facts.append(f"dynamic axes: {', '.join(axes)}{batch}")
    if verdict.values:
        facts.append(f"inputs: {', '.join(f'{name} {text}' for name, text in verdict.values.items())}")
    if verdict.coverage is not None and verdict.coverage.channels:
        facts.append(
            f"coverage: {verdict.coverage.never_active:,} of {verdict.coverage.channels:,} channels behind activations "
            "gave one value for every input"
        )
    if verdict.certificate is not None:
        own = verdict.certificate
        facts.append(
            f"certificate: {own.certified:,} of {own.regions:,} values of the file proven operator by operator, "
            f"largest error {own.largest_error:.2g} of a channel, parameters at most {own.parameters_max_ulps:.3g} "
            "units in the last place from their float64 digits"
        )
        if verdict.quick:
            facts.append("quick: besides the certificate, the file was compared on one input")
    elif verdict.passed:
        facts.append("verified on inputs: there is no certificate, which proves a file whatever its inputs are")
    return [*facts, *(f"warning: {warning}" for warning in verdict.warnings)]


def render_doctor(report: DoctorReport) -> None:
    """Print the checks, and under them the command that mends each one that failed."""
    table = new_table("check", [], text=["status", "found"])
    for check in report.checks:
        table.add_row(
            check.name,
            check.status if check.needed or check.status == "ok" else f"{check.status} (optional)",
            check.found,
        )
    print_table(table)
    for check in report.checks:
        if check.remedy is not None:
            say(f"{check.name}: {check.remedy}")
    able = "This machine can do the job" if report.able else "This machine cannot do the job yet"
    say(f"{able} with --provider {report.provider}.")


def number(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits, in plain notation from 0.0001 on to below 1e9; a dash for None.

    Digits before the point are all shown.
    """
    if value is None:
        return "-"
    size = abs(value)
    if size >= 1e9 or 0 < size < 1e-4 or not math.isfinite(value):
        return f"{value:.{digits - 1}e}"
    return f"{value:.0f}" if size >= 10**digits else f"{value:.{digits}g}"


def new_table(name: str, numbers: Sequence[str], *, text: Sequence[str] = ()) -> Table:
    """A table with a column of names, columns of text that may wrap, and columns of numbers that may not."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in (name, *text):
        table.add_column(column, overflow="fold")
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _least_width(table: Table) -> int:
    """The width below which a number would be cut: text columns at `TEXT_WIDTH`, number columns at their own width."""
    widths = [
        max(len(str(cell)) for cell in (column.header, *column.cells)) if column.no_wrap else TEXT_WIDTH
        for column in table.columns
    ]
    return sum(widths) + GAP * (len(widths) - 1)


class _StdoutConsole(Console):
    """Standard output of the moment; names are printed as they are, brackets included."""

    def __init__(self) -> None:
        super().__init__(markup=False, emoji=False, highlight=False)

    def on_broken_pipe(self) -> None:
        """Leave a closed pipe to the command line: the base class would end with 1, the code of a failed gate."""
        raise BrokenPipeError


def _console() -> Console:
    """As wide as the terminal; in a pipe, unless its width is set, without a limit."""
    console = _StdoutConsole()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _UNLIMITED
    return console


def print_whole(shown: RenderableType) -> None:
    """Print what wraps by itself."""
    _console().print(shown)


def terminal_height() -> int | None:
    """The lines of the terminal that standard output is; None where it is none."""
    console = _StdoutConsole()
    return console.height if console.is_terminal else None


def print_table(table: Table) -> None:
    """Print a table and an empty line."""
    console = _console()
    console.width = max(console.width, _least_width(table))  # rather a long line than a cut number
    console.print(table)
    console.print()


def say(sentence: str) -> None:
    """Print a sentence on one line."""
    _StdoutConsole().print(sentence, soft_wrap=True)
