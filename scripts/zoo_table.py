"""Every network of the zoo from training to a measured file, as one table.

    python scripts/zoo_table.py [NAME ...] [--runs DIR] [--reuse] [--budget SECONDS] [--json FILE] [--write FILE]

For each network: `bnfold train` with the recipe in its file, `fold-export`, and `bench` of the file against the one
that `torch.onnx.export` writes by default, one thread each. Exit code 1, with one line for each miss, unless every
network reached in two minutes the figure that its file states as EXPECTED, keeps as many BatchNorms as stated there,
and was proven equal.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import sys
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from run_table import figure

import bnfold
from bnfold.errors import BnfoldError
from bnfold.records import as_json
from bnfold.records.verdicts import verdict_in_words
from bnfold.sources.model_file import load_model_file, zoo_names
from bnfold.sources.usercode import import_file

LOWER_IS_BETTER = ("frechet",)
MOST_SECONDS = 120  # of a training run
COLUMNS = (
    "network",
    "task, data",
    "trained in s",
    "metric, reached / stated",
    "BN found / absorbed / merged / kept",
    "equal, error (allowed)",
    "before µs",
    "after µs",
    "after / before (interval)",
)

Facts = dict[str, Any]


def run(name: str, folder: Path, *, reuse: bool, budget_s: float) -> Facts:
    """Train, fold-export and bench one network; `reuse` takes a run that is there, if its model file is today's.

    Returns:
        The facts of its row: what was reached, what its file states, the ledger, the verdict, the ratio.
    """
    file = load_model_file(name)
    expected: Facts = dict(import_file(file.path).EXPECTED)
    kept = expected.pop("kept")
    ((metric, stated),) = expected.items()
    export = folder / "export"
    if not (reuse and _is_run_of(folder, file.path)):
        bnfold.train(name, folder, force=True)
        bnfold.fold_export(folder, export, keep_plain=True, force=True, budget_s=0)  # measured below
    trained = json.loads((folder / "run.json").read_text())
    report = json.loads((export / "report.json").read_text())
    facts: Facts = {
        "network": name,
        "task": trained["recipe"]["task"],
        "data": trained["recipe"]["data"],
        "metric": metric,
        "reached": trained["metrics"]["test"][metric],
        "stated": stated,
        "kept_stated": kept,
        "ledger": {key: report["ledger"][key] for key in ("found", "absorbed", "merged", "removed", "kept")},
        "equal": report["passed"],
        "outputs": report["verify"]["outputs"],
        "seconds": _epochs(folder)[-1]["seconds"],
    }
    if report["passed"]:
        files = (export / "model.onnx", export / "plain.onnx")
        facts["bench"] = as_json(bnfold.bench(*files, threads=1, budget_s=budget_s))
    return facts


def _is_run_of(folder: Path, model_file: Path) -> bool:
    copy = folder / "model.py"
    return (folder / "export" / "report.json").is_file() and copy.read_bytes() == model_file.read_bytes()


def _epochs(folder: Path) -> list[Facts]:
    """The lines of metrics.jsonl that tell of epochs."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == "epoch"]


def misses(facts: Facts) -> list[str]:
    """What a network does not keep of what its file states, one sentence each."""
    name, metric, reached, stated = (facts[key] for key in ("network", "metric", "reached", "stated"))
    found = []
    if (reached > stated) if metric in LOWER_IS_BETTER else (reached < stated):
        bound = "at most" if metric in LOWER_IS_BETTER else "at least"
        found.append(f"{name}: test {metric} {reached:.4f}, stated {bound} {stated}")
    if facts["seconds"] > MOST_SECONDS:
        found.append(f"{name}: trained in {facts['seconds']:.0f} s, expected at most {MOST_SECONDS}")
    if facts["ledger"]["kept"] != facts["kept_stated"]:
        found.append(f"{name}: {facts['ledger']['kept']} BatchNorms kept, stated {facts['kept_stated']}")
    if not facts["equal"]:
        found.append(f"{name}: the file is not equal to the network")
    return found


def share(output: Facts) -> float:
    """Of what is allowed, the error of an output; infinite where it could not be compared."""
    return math.inf if output["e_output"] is None else float(output["e_output"] / output["allowed"])


def row(facts: Facts) -> list[str]:
    """The cells of one network."""
    ledger = facts["ledger"]
    # Of several outputs, the one that came nearest to what is allowed.
    output = max(facts["outputs"], key=share)
    word = "yes" if facts["equal"] else "NO"
    return [
        facts["network"],
        f"{facts['task']}, {facts['data']}",
        f"{facts['seconds']:.0f}",
        f"{facts['metric']} {facts['reached']:.3f} / {facts['stated']}",
        f"{ledger['found']} / {ledger['absorbed']} / {ledger['merged']} / {ledger['kept']}",
        f"{word}, {figure(output['e_output'])} ({figure(output['allowed'])})",
        *latency(facts),
    ]


def latency(facts: Facts) -> list[str]:
    """Median microseconds of the plain and the folded file, their ratio with its interval, and the verdict."""
    if "bench" not in facts:
        return ["", "", "not measured"]
    median = {measured["name"]: measured["median_ms"] for measured in facts["bench"]["runs"]}
    (ratio,) = facts["bench"]["ratios"]
    return [
        f"{median[ratio['b']] * 1000:.1f}",
        f"{median[ratio['a']] * 1000:.1f}",
        f"{ratio['ratio']:.3f} ({ratio['low']:.3f} to {ratio['high']:.3f}), {verdict_in_words(ratio)}",
    ]


def table_text(rows: list[Facts]) -> str:
    """The table, as wide as it is, and what its columns mean."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, no_wrap=True)
    for facts in rows:
        table.add_row(*row(facts))
    console = Console(markup=False, highlight=False, file=io.StringIO())
    console.width = Measurement.get(console, console.options.update(max_width=1000), table).maximum
    with console.capture() as capture:
        console.print(table)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    lines += ["", "error: root mean square against float64, of the output that comes nearest to what is allowed;"]
    lines += ["before: what torch.onnx.export writes by default; after: bnfold"]
    measured = [facts["bench"]["environment"] for facts in rows if "bench" in facts]
    if measured:
        noise = "/".join(sorted({facts["noise"] for facts in measured}))
        runtime, cpu = measured[0]["onnxruntime"], measured[0]["cpu"]
        lines[-1] += f"; batch 1, 1 thread, ONNX Runtime {runtime}, {cpu}, {noise} machine"
    return "\n".join(lines)


def write_between_marks(path: Path, text: str) -> None:
    """Put a text, as a block, between the marks `<!-- zoo -->` and `<!-- /zoo -->` of a file."""
    content = path.read_text(encoding="utf-8")
    before, opening, rest = content.partition("<!-- zoo -->")
    _, closing, after = rest.partition("<!-- /zoo -->")
    if not opening or not closing:
        raise SystemExit(f"error: {path} has no marks <!-- zoo --> and <!-- /zoo -->")
    path.write_text(f"{before}{opening}\n```text\n{text}\n```\n{closing}{after}", encoding="utf-8")


def main() -> int:
    """Run the networks named, print the table and the misses; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="networks of the zoo (default: all)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where the run folders lie")
    parser.add_argument("--reuse", action="store_true", help="take runs that are there, and only measure them again")
    parser.add_argument("--budget", type=float, default=5.0, metavar="SECONDS", help="of each measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the facts of all rows")
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="put the table between the marks of docs/training.md"
    )
    options = parser.parse_args()
    rows: list[Facts] = []
    problems: list[str] = []
    for name in options.names or zoo_names():
        print(f"==> {name}", file=sys.stderr, flush=True)
        try:
            facts = run(name, options.runs / name, reuse=options.reuse, budget_s=options.budget)
        except BnfoldError as error:
            problems.append(f"{name}: {error}")
            continue
        rows.append(facts)
        problems += misses(facts)
    text = table_text(rows)
    print(text)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(
            json.dumps({"schema": "bnfold.zoo-table/1", "rows": rows, "misses": problems}, indent=1)
        )
    if options.write is not None and not problems:
        write_between_marks(options.write, text)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
