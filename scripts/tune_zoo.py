"""`bnfold tune` over several files, twice: what it gains, and whether the second run finds the same.

    python scripts/tune_zoo.py FILE.onnx ... --record RECORD.jsonl [--budget 30] [--only N] [--table]

Each run is a line of the record, which is added to; what is in it already is not measured again, so that a long table
can be made in parts (--only N runs at a time). Where the winners of the two runs differ, they are measured against each
other, side by side. --table prints the record as Markdown. Names are those of the files' folders.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

from common.tables import markdown_table

import bnfold
from bnfold.benchmarking.axes import Cell
from bnfold.benchmarking.halving import Halving
from bnfold.benchmarking.inputs import random_inputs
from bnfold.benchmarking.load import Load
from bnfold.benchmarking.session_runs import SessionRuns
from bnfold.benchmarking.subjects import file_subject, read_inputs, shapes_of
from bnfold.records import as_json
from bnfold.records.tuning import SessionSettings

RUNS = 2


def main() -> int:
    """Measure what is missing, or print the table."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    options = arguments()
    record: Path = options.record
    lines = [json.loads(line) for line in record.read_text("utf-8").splitlines()] if record.is_file() else []
    if options.table:
        print(table(lines))
        return 0
    left = options.only
    for file in options.files:
        for number in range(1, RUNS + 1):
            if left > 0 and find(lines, file, f"run {number}") is None:
                lines.append(note(record, file, f"run {number}", as_json(bnfold.tune(file, budget_s=options.budget))))
                left -= 1
        if left > 0 and differ(lines, file) and find(lines, file, "against") is None:
            lines.append(note(record, file, "against", against(lines, file, options.budget)))
            left -= 1
    return 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--record", type=Path, required=True, metavar="FILE")
    parser.add_argument("--budget", type=float, default=30.0, metavar="SECONDS")
    parser.add_argument("--only", type=int, default=1 << 30, metavar="N")
    parser.add_argument("--table", action="store_true")
    return parser.parse_args()


def name_of(file: Path) -> str:
    """The network of a file."""
    return file.resolve().parent.name


def note(record: Path, file: Path, kind: str, found: Any) -> dict[str, Any]:
    """Add a line to the record."""
    line = {"name": name_of(file), "kind": kind, "found": found}
    with record.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")
    return line


def find(lines: list[dict[str, Any]], file: Path | str, kind: str) -> Any:
    """What the record has of a file; None where it has nothing."""
    name = file if isinstance(file, str) else name_of(file)
    return next((line["found"] for line in lines if (line["name"], line["kind"]) == (name, kind)), None)


def sessions(lines: list[dict[str, Any]], file: Path | str) -> list[SessionSettings]:
    """The winners of the runs that there are."""
    runs = [find(lines, file, f"run {number}") for number in range(1, RUNS + 1)]
    own = [run["files"][0]["session"] for run in runs if run is not None]
    return [SessionSettings(**{**one, "disabled_optimizers": tuple(one["disabled_optimizers"])}) for one in own]


def differ(lines: list[dict[str, Any]], file: Path | str) -> bool:
    """Whether both runs are there, and their winners are not the same."""
    found = sessions(lines, file)
    return len(found) == RUNS and found[0] != found[1]


def against(lines: list[dict[str, Any]], file: Path, budget_s: float) -> dict[str, Any]:
    """time(second winner) / time(first winner), side by side."""
    import tempfile

    first, second = sessions(lines, file)
    cell = Cell("cpu", first.threads or 1, "all", None, 1, load=Load())
    specs, _, _ = read_inputs([file_subject("file", file)], ["cpu"])
    shapes = shapes_of(specs, cell)
    inputs = random_inputs(specs[file], shapes, 0)
    with tempfile.TemporaryDirectory() as folder:
        runs = SessionRuns(file, cell, specs[file], shapes, inputs, Path(folder), 0)
        search = Halving(first, runs.opened, lambda _settings: None, cell.threads)
        search.run([second], budget_s, lambda _best: [])
    measured = search.last[0].measured
    if measured is None:
        raise RuntimeError(f"{file}: nothing was measured")
    return {"ratio": measured.ratio, "low": measured.low, "high": measured.high, "verdict": measured.verdict}


def table(lines: list[dict[str, Any]]) -> str:
    """The record as Markdown."""
    headings = (
        "network",
        "default ms",
        "session",
        "time / default (99 %)",
        "cold start / default (99 %)",
        "second run",
    )
    rows = []
    for name in dict.fromkeys(line["name"] for line in lines):
        runs = [find(lines, name, f"run {number}") for number in range(1, RUNS + 1)]
        first, *rest = [run["files"][0] for run in runs if run is not None]
        cold = first["cold_start"]
        rows.append(
            (
                name, f"{first['steady']['default_ms']:.2f}", words(first), interval(first["steady"]),
                "-" if cold is None else interval(cold), second_run(lines, name, first, rest),
            )
        )  # fmt: skip
    return markdown_table(headings, rows, right=[1])


def words(found: dict[str, Any]) -> str:
    """The session, as `tune` calls it."""
    own, default = (
        SessionSettings(**{**found[key], "disabled_optimizers": tuple(found[key]["disabled_optimizers"])})
        for key in ("session", "default")
    )
    return own.name(default)


def interval(found: dict[str, Any]) -> str:
    """A ratio with its interval."""
    if found["low"] == found["high"]:
        return "1"
    return f"{found['ratio']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def second_run(lines: list[dict[str, Any]], name: str, first: dict[str, Any], rest: list[dict[str, Any]]) -> str:
    """Whether it found the same, and else what the two are to each other."""
    if not rest:
        return "-"
    if rest[0]["session"] == first["session"]:
        return f"the same, {interval(rest[0]['steady'])}"
    paired = find(lines, name, "against")
    told = "not measured" if paired is None else f"{paired['verdict']}, {interval(paired)} of the first's time"
    return f"{words(rest[0])}: {told}"


if __name__ == "__main__":
    sys.exit(main())
