"""The rule of scripts/common/timing_rule.py on every network that has a page: one line each, exit code 1 if one fails.

    python scripts/never_slower.py [--list field|zoo|cpu ...] [--only NAME ...] [--budget 10] [--runs DIR] [--json FILE]

`field` are the sources of docs/field.md (./scripts/fetch_field.sh fetches them), `zoo` those of docs/training.md,
`cpu` those of benchmarks/cpu.md (timm is needed). A network of the zoo is measured as its run folder in --runs holds
it; where there is none, and in `cpu`, weights are random, gamma and beta drawn and statistics measured as in
scripts/fold_zoo.py. NAME is LIST:NETWORK. --json appends a line for every network, and those that it has are not
measured again: the same command goes on where it ended.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import field_table
import torch
from bench_zoo import write_files, write_pair
from common.networks import TIMM, calibrate, randomise
from common.patterns import PATTERNS
from common.rows import measured_rows
from common.timing_rule import failure, measured, shown
from field.sources import field_sources

from bnfold.errors import BnfoldError
from bnfold.sources import TorchSource, load_source
from bnfold.sources.model_file import zoo_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LISTS = ("field", "zoo", "cpu")


def networks(lists: Sequence[str]) -> list[str]:
    """Every network of the lists, as LIST:NETWORK."""
    names = {
        "field": [source.name for source in field_sources()],
        "zoo": list(zoo_names()),
        "cpu": [*PATTERNS, *TIMM],
    }
    return [f"{which}:{name}" for which in lists for name in names[which]]


def zoo_pair(name: str, runs: Path, folder: Path) -> tuple[Path, Path]:
    """The folded and the plain file of a network of the zoo: from its run folder, else with random weights."""
    made = runs / name / "export" / "model.onnx", runs / name / "export" / "plain.onnx"
    if all(path.is_file() for path in made):
        return made
    source = load_source(name)
    if not isinstance(source, TorchSource):
        raise TypeError(f"{name} of the zoo must be a module, got {type(source).__name__}")
    generator = torch.Generator().manual_seed(0)
    inputs = tuple(
        torch.randint(0, 2, spec.with_batch(16)) if "int" in spec.dtype
        else torch.randn(spec.with_batch(16), generator=generator)
        for spec in source.inputs
    )  # fmt: skip
    randomise(source.module, "positive", seed=1)
    calibrate(source.module, inputs)
    return write_files(source, folder)


def measure(name: str, runs: Path, budget_s: float) -> dict[str, Any]:
    """The row of a network: its time, or why there is none."""
    which, _, network = name.partition(":")
    if which == "field":
        (source,) = (source for source in field_sources() if source.name == network)
        return {**field_table.measure(source, budget_s), "network": name}
    with tempfile.TemporaryDirectory(prefix="bnfold-") as place:
        folder = Path(place) / "files"
        try:
            files = zoo_pair(network, runs, folder) if which == "zoo" else write_pair(network, folder)
            return {"network": name, "timing": measured(*files, budget_s=budget_s)}
        except BnfoldError as error:
            return {"network": name, "failure": str(error)}


def miss(row: Mapping[str, Any]) -> str | None:
    """Why a network fails, None where it passes."""
    return str(row["failure"]) if "failure" in row else failure(row["timing"])


def line(row: Mapping[str, Any]) -> str:
    """One network: its ratio, how often it was measured, and whether it passes."""
    why = miss(row)
    facts = f"{shown(row['timing'])}  {row['timing']['n_measured']}" if "timing" in row else "-"
    return f"{row['network']:60}  {facts}  {'passed' if why is None else f'FAILED: {why}'}"


def main() -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", dest="lists", nargs="+", choices=LISTS, default=list(LISTS))
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--budget", type=float, default=10.0, metavar="SECONDS", help="of each measurement")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where run folders lie")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    arguments.names = networks(arguments.lists)
    unknown = sorted({*(arguments.only or ())} - {*arguments.names})
    if unknown:
        parser.error(f"--only must be of {', '.join(arguments.names)}, got {', '.join(unknown)}")
    arguments.names = arguments.only or arguments.names
    arguments.missing = True
    rows = measured_rows(arguments, lambda name: measure(name, arguments.runs, arguments.budget), line)
    failed = [row["network"] for row in rows if miss(row) is not None]
    print(f"{len(rows) - len(failed)} of {len(rows)} are not slower")
    for name in failed:
        print(f"error: {name} fails the rule", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
