"""What `bnfold tune` prints: the options that were tried, the session to take, and the lines that set it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.report.tables import new_table, number, print_table, say

if TYPE_CHECKING:
    from bnfold.records.tuning import ColdStarts, TunedFile, TuneReport

__all__ = ["render_tuning"]

TITLES = {"python": "Python", "cpp": "C++", "triton": "Triton (config.pbtxt)"}
IN_WORDS = {"implied": "changes nothing in this file", "dropped": "slower half, dropped"}


def render_tuning(report: TuneReport) -> None:
    """Print it file by file."""
    for file in report.files:
        _render_file(file)
    facts = report.machine
    build = f"{facts.get('onnxruntime_build') or 'onnxruntime'} {facts.get('onnxruntime')}"
    say(f"{facts.get('gpu') or facts.get('cpu')}, {facts.get('threads')} CPUs for this process, {build}")


def _render_file(file: TunedFile) -> None:
    table = new_table(f"{file.name}: session", ["time / default", "99 % interval"], text=["outcome"])
    for own in file.options:
        if own.outcome == "implied":
            continue
        interval = "" if own.low is None or own.high is None else f"{own.low:.3f} to {own.high:.3f}"
        ratio = "-" if own.ratio is None else f"{own.ratio:.3f}"
        outcome = IN_WORDS.get(own.outcome, own.outcome) + (f": {own.reason}" if own.reason else "")
        table.add_row(own.name, outcome, ratio, interval)
    print_table(table)
    implied = [own.name for own in file.options if own.outcome == "implied"]
    if implied:
        say(f"not measured, since they change nothing in this file: {', '.join(implied)}")
    say(_verdict(file))
    if file.ties:
        say(f"ties with the default: {', '.join(file.ties)}")
    if file.cold_start is not None:
        say(_cold(file.cold_start))
    for key, lines in file.lines.items():
        say(f"\n{TITLES.get(key, key)}:")
        for line in lines.splitlines():
            say(f"    {line}" if line else "")
    say("")


def _verdict(file: TunedFile) -> str:
    steady = file.steady
    if file.is_default:
        note = f" ({steady.note})" if steady.note else ""
        return f"take the default session: nothing is faster by its whole interval{note}"
    ends = f"{steady.ratio:.3f} ({steady.low:.3f} to {steady.high:.3f})"
    times = f"{number(steady.median_ms, 4)} instead of {number(steady.default_ms, 4)} ms"
    why = "it starts faster, " if steady.verdict == "tie" else ""
    return f"take {file.session.name(file.default)}: {why}{ends} of the default's time, {times}, {steady.verdict}"


def _cold(cold: ColdStarts) -> str:
    ends = f"{cold.ratio:.3f} ({cold.low:.3f} to {cold.high:.3f})"
    loads = f"load {number(cold.load_ms)} ms, first run {number(cold.first_ms)} ms, {number(cold.peak_mb)} MiB"
    default = (
        f"{number(cold.default_load_ms)} ms, {number(cold.default_first_ms)} ms, {number(cold.default_peak_mb)} MiB"
    )
    if cold.ratio == cold.low == cold.high:
        return f"cold start: {loads}"
    return f"cold start: {loads} (default {default}); {ends} of the default's, {cold.verdict}"
