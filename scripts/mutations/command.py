"""What the verification catches: some forty kinds of wrong fold over five small networks.

Every wrong file is shown first to compute something else than the right one: in float64 by more than one rounding of
every parameter moves the function, or with other names or types. (A cast, or statistics of the batch, have no float64
evaluation here: there the outputs in ONNX Runtime must differ by more than the right file's own error.) Then it is
judged by `verify_file` with its defaults, as `bnfold verify` and the gate of `fold-export` do. Each cell of the table:

    caught    the verdict fails, or the file is refused       +   the layer is named right
    MISSED    the verdict passes                              !   another one is named, or none
    equal     it computes the same: not counted               (blank: the fault is in no layer)
    -         the network has no place for it

and next to it what `np.allclose` between the outputs of the file and of the source's unfolded graph in ONNX Runtime, on
one random sample, catches at atol = rtol = 1e-3, 1e-4, 1e-5.

    python scripts/mutations.py [--networks bnnet unet ...] [--kinds "eps dropped" ...] [--json FILE] [--markdown FILE]

--json appends a line for every case judged, and what it holds already is not judged again, so that networks may run one
after the other; --markdown writes docs/mutations.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch

from bnfold.errors import InputRefused
from bnfold.graph.float64 import Float64Graph
from bnfold.numerics.error_bounds import unit_roundoff
from bnfold.runtime import open_session
from bnfold.verification import reference_for, verify_file
from bnfold.verification.checks.parameter_errors import judge_parameters
from bnfold.verification.data.feeds import make_feeds
from mutations.files import FILES
from mutations.folds import FOLDS
from mutations.networks import NETWORKS, subject_of
from mutations.outcomes import TOLERANCES, Outcome, known, summary, table
from mutations.outputs import OUTPUTS
from mutations.page import write_page

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnfold.verification import Reference
    from mutations.networks import Subject
    from mutations.norms import Mutant

__all__ = ["ALL_KINDS", "NETWORKS", "Outcome", "Trial", "main", "summary"]

ALL_KINDS: dict[str, Callable[[Subject], Mutant | None]] = {**FOLDS, **FILES, **OUTPUTS}
N_ROWS = 3


class Trial:
    """One network, its reference, and the judgement of its wrong files."""

    def __init__(self, name: str, folder: Path) -> None:
        self.subject = subject_of(name)
        self.path = folder / "candidate.onnx"
        source = self.subject.source
        self.reference: Reference = reference_for(source, self.subject.plain)
        facts = self.reference.input_facts
        self.feeds = list(make_feeds(source.inputs, samples=None, facts=facts, batches=[N_ROWS], seed=1))
        right, u = self.subject.right, unit_roundoff("float32")
        graph = Float64Graph(right)
        self.right = [graph.evaluate(feed.arrays) for feed in self.feeds]
        judged = judge_parameters(right, self.reference, self.feeds, u=u, seed=0)
        self.rounding = {name: errors.rounding.rms for name, errors in judged.items()}
        generator = np.random.default_rng(0)
        self.sample = generator.standard_normal(source.inputs[0].with_batch(1)).astype(np.float32)

    def judge(self, kind: str) -> Outcome | str:
        """The outcome, or the word for a case that does not count."""
        torch.manual_seed(1)
        mutant = ALL_KINDS[kind](self.subject)
        if mutant is None:
            return "-"
        onnx.save(mutant.model, self.path)
        if not self._differs(mutant.model):
            return "equal"
        close = self._close()
        passed, layer, sentence = self._verdict()
        right = None if mutant.layers is None else layer in mutant.layers
        expected = ", ".join(sorted(mutant.layers or ()))
        return Outcome(kind, self.subject.name, not passed, right, close, expected, f"{layer}: {sentence}")

    def _verdict(self) -> tuple[bool, str | None, str]:
        source = self.subject.source
        try:
            verdict = verify_file(self.path, self.reference, inputs=source.inputs, samples=source.samples, threads=1)
        except InputRefused as refused:
            return False, None, str(refused)
        layer = verdict.departure.layer if verdict.departure else None
        return verdict.passed, layer, verdict.failure or ""

    def _differs(self, model: onnx.ModelProto) -> bool:
        """Whether the file is wrong at all."""
        if _interface(model) != _interface(self.subject.right):
            return True
        if any(node.op_type == "Cast" or _in_train_mode(node) for node in model.graph.node):
            return self._differs_in_execution()
        try:
            wrong = [Float64Graph(model).evaluate(feed.arrays) for feed in self.feeds]
        except Exception:  # noqa: BLE001 - the evaluator's own, of whatever kind: the right file has values here
            return True
        for name, rounding in self.rounding.items():
            pairs = [(a[name], b[name]) for a, b in zip(wrong, self.right, strict=True)]
            if any(a.shape != b.shape or not np.isfinite(a).all() for a, b in pairs):
                return True
            distance = np.concatenate([(a - b).ravel() for a, b in pairs])
            if np.sqrt(np.mean(distance**2)) > rounding:
                return True
        return False

    def _differs_in_execution(self) -> bool:
        """Whether the file lies further from float64 than twice the right file does."""
        exact = [self.reference.evaluate64(feed.arrays) for feed in self.feeds]
        errors = []
        for model in (self.path, self.subject.right.SerializeToString()):
            try:
                session = open_session(model, threads=1, optimized=False)
            except InputRefused:
                return True
            names = [output.name for output in session.get_outputs()]
            got = [dict(zip(names, session.run(None, dict(feed.arrays)), strict=True)) for feed in self.feeds]
            errors.append(max(float(np.abs(a[n] - b[n]).max()) for a, b in zip(got, exact, strict=True) for n in names))
        return errors[0] > 2 * errors[1]

    def _close(self) -> tuple[bool, ...]:
        """For each tolerance, whether `np.allclose` on one sample notices nothing."""
        try:
            got = open_session(self.path, threads=1).run(None, {"x": self.sample})
        except Exception:  # noqa: BLE001 - ONNX Runtime's own: a script of three lines stops here, too
            return (False,) * len(TOLERANCES)
        plain = open_session(self.subject.plain.SerializeToString(), threads=1).run(None, {"x": self.sample})
        pairs = list(zip(got, plain, strict=False))
        return tuple(
            all(a.shape == b.shape and np.allclose(a, b, rtol=t, atol=t) for a, b in pairs) for t in TOLERANCES
        )


def _interface(model: onnx.ModelProto) -> list[tuple[str, int]]:
    return [(v.name, v.type.tensor_type.elem_type) for v in (*model.graph.input, *model.graph.output)]


def _in_train_mode(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "training_mode" and attribute.i for attribute in node.attribute)


def judged(networks: Sequence[str], kinds: Sequence[str], file: Path | None) -> dict[str, dict[str, Outcome | str]]:
    """The cells of the table, by kind and network; those that are new are appended to the file."""
    earlier = known(file)
    cells: dict[str, dict[str, Outcome | str]] = {kind: {} for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        for name in networks:
            new = [kind for kind in kinds if (name, kind) not in earlier]
            trial = Trial(name, Path(folder)) if new else None
            for kind in kinds:
                cells[kind][name] = cell = (
                    earlier[name, kind] if trial is None or kind not in new else trial.judge(kind)
                )
                print(f"{name}, {kind}: {cell if isinstance(cell, str) else cell.cell()}", file=sys.stderr)
                if file and kind in new:
                    entry = cell if isinstance(cell, str) else dataclasses.asdict(cell)
                    with file.open("a") as lines:
                        lines.write(json.dumps([name, kind, entry]) + "\n")
    return cells


def main() -> None:
    """Judge and print; exit code 1 where one is missed, or fewer than nine in ten layers are named right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--kinds", nargs="*", default=list(ALL_KINDS), choices=list(ALL_KINDS))
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # the exporter's, of its own internals
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        cells = judged(arguments.networks, arguments.kinds, arguments.json)
    outcomes = [cell for row in cells.values() for cell in row.values() if isinstance(cell, Outcome)]
    table(cells, arguments.networks)
    if arguments.markdown:
        write_page(arguments.markdown, cells, arguments.networks, TOLERANCES)
    if not summary(outcomes, len({outcome.kind for outcome in outcomes})):
        sys.exit(1)
