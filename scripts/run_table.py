"""The last step of run.sh: one table of what training, fold-export and bench reported.

    python scripts/run_table.py RUN [RUN ...]

Reads RUN/run.json, RUN/export/report.json and RUN/export/bench.json. Exit code 1, with one line for each failed check,
unless every network reached its accuracy, has no BatchNormalization node left, and was proven equal.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from bnfold.records.verdicts import verdict_in_words

LEAST_ACCURACY = 0.95

Facts = dict[str, Any]


def read(path: Path) -> Facts:
    """A JSON file."""
    facts: Facts = json.loads(path.read_text())
    return facts


def row(run: Path) -> list[str]:
    """The cells of one network."""
    trained, exported = read(run / "run.json"), read(run / "export" / "report.json")
    benched = read(run / "export" / "bench.json")
    ledger = exported["ledger"]
    return [
        run.name,
        f"{accuracy(trained):.4f}",
        f"{ledger['found']} / {ledger['absorbed']} / {ledger['kept']}",
        "\n".join(equality(exported)),
        *latency(benched),
    ]


def accuracy(trained: Facts) -> float:
    """The share of the test images that the network gets right."""
    return float(trained["metrics"]["test"]["accuracy"])


def equality(exported: Facts) -> list[str]:
    """For each output: equal or not, its error against float64 and what is allowed."""
    word = "yes" if exported["passed"] else "NO"
    return [f"{word}, {figure(o['e_output'])} ({figure(o['allowed'])})" for o in exported["verify"]["outputs"]]


def figure(error: float | None) -> str:
    """An error with two digits, null where there was nothing to compare."""
    return "not compared" if error is None else f"{error:.1e}"


def latency(benched: Facts) -> list[str]:
    """Median microseconds of the plain and the folded file, their ratio with its interval, and the verdict."""
    median = {run["name"]: run["median_ms"] for run in benched["runs"]}
    (ratio,) = benched["ratios"]
    return [
        f"{median[ratio['b']] * 1000:.1f}",
        f"{median[ratio['a']] * 1000:.1f}",
        f"{ratio['ratio']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f}), {verdict_in_words(ratio)}",
    ]


def failures(run: Path) -> list[str]:
    """What keeps a network from passing, one sentence each."""
    trained, exported = read(run / "run.json"), read(run / "export" / "report.json")
    found = []
    if accuracy(trained) < LEAST_ACCURACY:
        found.append(f"{run.name}: test accuracy {accuracy(trained):.4f}, expected at least {LEAST_ACCURACY}")
    if not exported["passed"]:
        found.append(f"{run.name}: not equal: {exported['verify']['failure']}")
    if exported["graph"]["batchnorm_after"] != 0:
        found.append(f"{run.name}: {exported['graph']['batchnorm_after']} BatchNormalization nodes left, expected 0")
    return found


def main(runs: list[Path]) -> int:
    """Print the table, the files and the failures; the exit code."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    columns = ["network", "test accuracy", "BN found / absorbed / kept", "equal, error (allowed)"]
    for column in [*columns, "before µs", "after µs", "after / before (99 % interval)"]:
        table.add_column(column, no_wrap=True)
    for run in runs:
        table.add_row(*row(run))
    console = Console(markup=False, highlight=False)
    console.width = Measurement.get(console, console.options.update(max_width=1000), table).maximum
    console.print(table)
    facts = read(runs[0] / "export" / "bench.json")["environment"]
    threads = f"{facts['threads']} thread{'' if facts['threads'] == 1 else 's'}"
    print("\nerror: root mean square against float64; before: what torch.onnx.export writes by default; after: bnfold;")
    print(f"batch 1, {threads}, ONNX Runtime {facts['onnxruntime']}, {facts['cpu']}, {facts['noise']} machine\n")
    for run in runs:
        for name in ("model.onnx", "plain.onnx", "report.json", "bench.json"):
            print(run / "export" / name)
    problems = [problem for run in runs for problem in failures(run)]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main([Path(argument) for argument in sys.argv[1:]]))
