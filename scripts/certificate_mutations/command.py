"""Folds made wrong on purpose in one rewrite, in a channel that no input activates: does fold-export say so?

    python scripts/certificate_mutations.py [--markdown FILE] [RULE ...]

For each rewrite of the fold's rules a small network is folded and written by `bnfold fold-export`, once as it is and
once with each fault in that rewrite: the weights of one output channel times 1.01, and one offset dropped. The channel
lies in front of a ReLU that is off for it on every input, where a network has one. Merged branches get one wrong scale,
removed channels lose the constant that their readers should take. A fault counts as caught where the file does not pass
and the layer is named. The table is printed; the exit code is 1 where a fault was missed, or a right fold fails.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from common.tables import markdown_line, markdown_table

import bnfold.folding
from bnfold.folding.relations import RULES
from bnfold.records import FoldExportReport
from bnfold.workflows.fold_export import fold_export
from certificate_mutations.faults import WEIGHTS, faults_of, faulty, patched
from certificate_mutations.networks import NETWORKS, model_of

__all__ = ["main"]

COLUMNS = ("rewrite", "fault", "caught", "layer", "named")


def exported(rule: str, folder: Path) -> FoldExportReport:
    """What `bnfold fold-export` reports of a rule's network."""
    path = folder / "source.onnx"
    onnx.save(model_of(rule), path)
    with _moved_behind_relus() if rule == "Max" else contextlib.nullcontext():
        return fold_export(path, folder / "out", force=True, threads=1)


@contextlib.contextmanager
def _moved_behind_relus() -> Iterator[None]:
    """The fold as `--measure` may choose it."""
    original = bnfold.folding.fold_model

    def fold_model(model: Any, **_: Any) -> Any:
        return original(model, move_behind_relus=True)

    with patched(bnfold.folding, "fold_model", fold_model):
        yield


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("rules", nargs="*", metavar="RULE", default=list(NETWORKS))
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there too")
    arguments = parser.parse_args()
    missing = sorted({op for op, rule in RULES.items() if rule.rewrite is not None} - set(NETWORKS))
    rows = []
    good = not missing
    for rule in arguments.rules:
        for fault in ("none", *faults_of(rule)):
            with tempfile.TemporaryDirectory() as name:
                cells, passed = _row(rule, fault, Path(name))
            good &= passed
            rows.append((rule, fault, *cells))
            print(markdown_line(rows[-1]), flush=True)
    if missing:
        print(f"no network for {', '.join(missing)}")
    if arguments.markdown is not None:
        arguments.markdown.write_text(markdown_table(COLUMNS, rows) + "\n", encoding="utf-8")
    return 0 if good else 1


def _row(rule: str, fault: str, folder: Path) -> tuple[tuple[str, str, str], bool]:
    """What the last columns say, and whether it is as it should be."""
    if fault == "none":
        report = exported(rule, folder)
        facts = report.certificate
        proven = facts is not None and facts.certified == facts.regions
        text = "right" if report.passed and proven else f"WRONG: {report.verify.failure}"
        return (text, "", ""), report.passed and proven
    with faulty(rule, fault) as worked:
        report = exported(rule, folder)
    if not worked:
        return ("no place for it", "", ""), fault != WEIGHTS
    departure = report.verify.departure
    layer = "" if departure is None else departure.layer
    named = layer in {f"layer_{name}" for name in NETWORKS[rule].written}
    caught = "yes" if not report.passed else "MISSED"
    return (caught, layer, "yes" if named else "NO"), not report.passed and named
