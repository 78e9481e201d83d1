"""What `bnfold bench` prints: runs, ratios, rates, where nodes run, where the time goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.records.grid import in_grid
from bnfold.records.verdicts import verdict_in_words
from bnfold.report.tables import new_table, number, print_table, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnfold.records import BenchLoss, BenchPlacement, BenchProfile, BenchReport, BenchRun, ProfileEntry

__all__ = ["render_bench"]

N_LAYERS = 15
"""Layers of a profile that are printed, those that take most; the JSON holds all."""


def render_bench(report: BenchReport) -> None:
    """Print the runs, the ratios, and what the numbers depend on."""
    runs = new_table("file", ["batch", "median ms", "p95 ms", "images/s", "load ms", "first ms", "MiB"])
    every = [vars(run) for run in report.runs]
    for run in report.runs:
        others = (run.p95_ms, run.images_per_s, run.load_ms, run.first_ms, run.peak_mb)
        runs.add_row(
            in_grid(run.name, vars(run), every),
            str(run.batch),
            number(run.median_ms, 4),
            *(number(value, 3) for value in others),
        )
    print_table(runs)
    if report.ratios:
        ratios = new_table("time ratio", ["batch", "ratio", "99 % interval", "verdict"])
        pairs = [vars(ratio) for ratio in report.ratios]
        for ratio in report.ratios:
            interval = f"{ratio.low:.3f} to {ratio.high:.3f}"
            pair = in_grid(f"{ratio.a} / {ratio.b}", vars(ratio), pairs)
            ratios.add_row(pair, str(ratio.batch), f"{ratio.ratio:.3f}", interval, verdict_in_words(vars(ratio)))
        print_table(ratios)
    _losses(report.losses)
    for run in report.runs:
        if run.rate_per_s is not None:
            say(_rate_sentence(run, in_grid(run.name, vars(run), every)))
    for note in dict.fromkeys(ratio.note for ratio in report.ratios if ratio.note):
        say(note)
    _placements(report.placements)
    _profiles(report.profiles)
    if not report.complete:
        say("interrupted: this is what was measured so far")
    facts = report.environment
    build = f"{facts.get('onnxruntime_build') or 'onnxruntime'} {facts.get('onnxruntime')}"
    threads = facts.get("threads")
    say(f"{facts.get('gpu') or facts.get('cpu')}, {threads} thread{'' if threads == 1 else 's'}, {build}")
    if facts.get("noise") == "noisy":
        say(f"The machine was noisy: {facts.get('noise_causes')}. Repeat on a quiet machine before you rely on this.")


def _losses(losses: Sequence[BenchLoss]) -> None:
    """What files in int8, and the others beside them, say otherwise than the plain export."""
    if not losses:
        return
    table = new_table("against the plain export", ["dB", "same class", "metric", "plain"], text=["output"])
    for loss in losses:
        same = "-" if loss.agreement is None else f"{loss.agreement:.1%}"
        metric = "-" if loss.value is None else f"{loss.metric} {loss.value:.4f}"
        plain = "-" if loss.plain is None else f"{loss.plain:.4f}"
        table.add_row(loss.name, loss.output, f"{loss.sqnr_db:.1f}", same, metric, plain)
    print_table(table)


def _rate_sentence(run: BenchRun, where: str) -> str:
    """What the open loop found for a file, `where` in the grid."""
    name, limit = f"{where}, batch {run.batch}", f"{number(run.slo_p95_ms)} ms"
    if not run.rate_per_s:
        return f"{name}: no rate keeps p95 within {limit}; one request alone takes {number(run.median_ms)} ms"
    rates = [number(rate, 4) for rate in sorted(run.rates_per_s)]
    searches = (
        f"searches: {' and '.join(rates)}" if len(rates) == 2 else f"{len(rates)} searches: {rates[0]} to {rates[-1]}"
    )
    word = "confirmed" if run.rate_confirmed else "NOT confirmed"
    return f"{name}: {number(run.rate_per_s, 4)} requests/s keep p95 within {limit}, {word} ({searches})"


def _placements(placements: Sequence[BenchPlacement]) -> None:
    """The nodes that another provider took than the one asked for, and how many there are in all."""
    elsewhere = [(placement, node) for placement in placements for node in placement.elsewhere]
    if not elsewhere:
        return
    table = new_table("node", [], text=["operator", "file", "runs on", "kind"])
    for placement, node in elsewhere:
        kind = "computes" if node.computes else "arithmetic on shapes"
        table.add_row(node.name, node.op_type, placement.name, node.provider, kind)
    print_table(table)
    for placement in placements:
        counts = ", ".join(f"{count} on {provider}" for provider, count in (placement.nodes or {}).items())
        say(f"{placement.name}, asked for on {placement.provider}: {counts} nodes")
    if any(node.computes for _, node in elsewhere):
        say("Nodes that compute fell back: the times above hold copies. --strict-provider makes that a failure.")


def _profiles(profiles: Sequence[BenchProfile]) -> None:
    """For each cell of the grid, operators and layers with the milliseconds they take in each file."""
    cells: dict[tuple[object, ...], list[BenchProfile]] = {}
    for profile in profiles:
        where = (profile.provider, profile.threads, profile.opt_level, profile.optimize, profile.batch)
        cells.setdefault(where, []).append(profile)
    for (provider, threads, level, optimize, batch), files in cells.items():
        say(f"Where the time goes: {provider}, threads {threads}, {level} {optimize}, batch {batch}; ms in one run")
        _breakdown("operator", [file.operators for file in files], [file.name for file in files])
        _breakdown("layer", [file.layers for file in files], [file.name for file in files], most=N_LAYERS)


def _breakdown(
    heading: str, files: Sequence[Sequence[ProfileEntry]], names: Sequence[str], most: int | None = None
) -> None:
    """A row for each operator or layer, a column of milliseconds and one of shares for each file."""
    found = [{entry.name: entry for entry in entries} for entries in files]
    rows = list(dict.fromkeys(entry.name for entries in files for entry in entries))
    rows.sort(key=lambda row: -max(own[row].ms for own in found if row in own))
    table = new_table(heading, [column for name in names for column in (f"{name} ms", "share")])
    for row in rows[:most]:
        entries = [own.get(row) for own in found]
        cells = [("-", "-") if entry is None else (number(entry.ms, 3), f"{entry.share:.1%}") for entry in entries]
        table.add_row(row, *(text for pair in cells for text in pair))
    print_table(table)
    if most is not None and len(rows) > most:
        say(f"and {len(rows) - most} more, which --json FILE holds")
