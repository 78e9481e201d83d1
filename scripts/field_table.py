"""Fold the files and trained networks of the field, prove them equal, measure them, and print docs/field.md's table.

    python scripts/field_table.py [--only NAME ...] [--budget 10] [--json FILE] [--markdown docs/field.md]

./scripts/fetch_field.sh fetches what scripts/field_files.toml lists. Each source goes through `bnfold fold-export`, a
file without any option; its result is timed against the source itself, that of a network against the plain export, by
the rule of scripts/common/timing_rule.py. --json appends a line for every source and is the memory of an interrupted
run: the same command goes on where it ended. Exit code 1, with one line for each miss, unless every source folds, is
equal, keeps as many BatchNorms as stated, and is not slower; only then is the page written.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.rows import measured_rows
from common.tables import markdown_table
from common.timing_rule import LARGEST_LOW, MOST_AGAIN, WIDEST, failure, measured, shown
from field.sources import FieldSource, field_sources

from bnfold.errors import BnfoldError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COUNTS = ("found", "absorbed", "merged", "removed", "kept")
COLUMNS = (
    "file", "package", "exporter", "BN found", "BN kept", "nodes before", "nodes after", "error / allowed",
    "time ratio (99 % interval)",
)  # fmt: skip
PAGE = """\
# Files and networks that others made

{n_sources} files and trained networks of {n_packages} packages, written by {n_exporters} exporters and none of them by
us. Each goes through `bnfold inspect` and `bnfold fold-export` without any option, and is proven equal.

- **error / allowed**: that of the output which comes nearest to what is allowed; 1 would still pass;
- **time ratio**: time(folded) / time(source) on ONNX Runtime's CPU provider, interleaved, one thread, batch 1 or, where
  the file leaves other sizes open, those of scripts/field_files.toml. What others ship is often folded and optimized
  already: then 1 is what can be had.

The rule: an interval no wider than {widest}, measured again at most {again} times where it is wider, whose lower end is
at most {largest}. `./scripts/test_field.sh` checks everything but the times.

    ./scripts/fetch_field.sh
    python scripts/field_table.py --json field.jsonl --markdown docs/field.md

ONNX Runtime {onnxruntime}, {cpu}.

{table}
"""


def fold_export(source: FieldSource, output: Path) -> dict[str, Any]:
    """The report of `bnfold fold-export` on a source.

    Raises:
        SystemExit: it did not end with exit code 0; the error is its own line.
    """
    plain = [] if source.factory is None else ["--keep-plain"]
    command = ["fold-export", *source.arguments, "-o", str(output), "--budget", "0", "--quiet", *plain]
    ended = subprocess.run([sys.executable, "-m", "bnfold", *command], capture_output=True, text=True, check=False)
    if ended.returncode != 0:
        said = [line for line in ended.stderr.splitlines() if line.startswith("error:")] or [ended.stderr.strip()]
        raise SystemExit(f"exit code {ended.returncode}, {said[-1]}")
    report: dict[str, Any] = json.loads((output / "report.json").read_text(encoding="utf-8"))
    return report


def measure(source: FieldSource, budget_s: float) -> dict[str, Any]:
    """The row of a source: what became of it and of its BatchNorms, and its time."""
    row: dict[str, Any] = {"network": source.name}
    with tempfile.TemporaryDirectory(prefix="bnfold-") as folder:
        output = Path(folder) / "output"
        try:
            report = fold_export(source, output)
            row |= {
                "ledger": {key: report["ledger"][key] for key in COUNTS},
                "nodes": [report["graph"]["nodes_before"], report["graph"]["nodes_after"]],
                "error": max(
                    (o["e_output"] / o["allowed"] if o["allowed"] else 0.0 for o in report["verify"]["outputs"]),
                    default=0.0,
                ),
            }
            before = output / "plain.onnx" if source.path is None else source.folder / source.path
            row["timing"] = measured(output / "model.onnx", before, shapes=source.shapes, budget_s=budget_s)
        except (BnfoldError, SystemExit) as error:
            row["failure"] = str(error)
    return row


def misses(source: FieldSource, row: Mapping[str, Any]) -> list[str]:
    """What a source does not keep of what it is held to, one sentence each."""
    if "failure" in row:
        return [f"{source.name}: {row['failure']}"]
    found = [
        f"{source.name}: {row['ledger'][key]} BatchNorms {key}, stated {getattr(source, key)}"
        for key in ("found", "kept")
        if row["ledger"][key] != getattr(source, key)
    ]
    slower = failure(row["timing"])
    return found if slower is None else [*found, f"{source.name}: {slower}"]


def cells(source: FieldSource, row: Mapping[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    head = (source.name.partition("/")[2], f"{source.package} {source.version}", source.exporter)
    if "ledger" not in row:
        return (*head, *("-" for _ in COLUMNS[len(head) :]))
    counts = (row["ledger"]["found"], row["ledger"]["kept"], *row["nodes"])
    timing = shown(row["timing"]) if "timing" in row else "-"
    return (*head, *map(str, counts), f"{row['error']:.2f}", timing)


def page(sources: Sequence[FieldSource], rows: Sequence[Mapping[str, Any]]) -> str:
    """docs/field.md."""
    lines = [cells(source, row) for source, row in zip(sources, rows, strict=True)]
    return PAGE.format(
        n_sources=len(sources),
        n_packages=len({source.package for source in sources}),
        n_exporters=len({source.exporter for source in sources}),
        widest=WIDEST,
        again=MOST_AGAIN,
        largest=LARGEST_LOW,
        **{key: ", ".join(sorted({row["timing"][key] for row in rows})) for key in ("onnxruntime", "cpu")},
        table=markdown_table(COLUMNS, lines, right=range(3, len(COLUMNS))),
    )


def main() -> int:
    """Measure, print the table and the misses, write the page; the exit code."""
    every = {source.name: source for source in field_sources()}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", dest="names", nargs="+", default=list(every), choices=list(every), metavar="NAME")
    parser.add_argument("--budget", type=float, default=10.0, metavar="SECONDS", help="of each measurement")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    arguments.missing = True
    print("  ".join(COLUMNS), flush=True)
    rows = measured_rows(
        arguments,
        lambda name: measure(every[name], arguments.budget),
        lambda row: "  ".join(cells(every[row["network"]], row)),
    )
    sources = [every[name] for name in arguments.names]
    problems = [miss for source, row in zip(sources, rows, strict=True) for miss in misses(source, row)]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if arguments.markdown is not None and not problems:
        arguments.markdown.write_text(page(sources, rows), encoding="utf-8")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
