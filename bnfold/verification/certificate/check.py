"""The proof: every value of the file, in graph order, is what its counterpart in the source says.

A value is proven from proven ones, by the smallest region that computes it and its counterpart; operators that are the
same, on values that are the same, need no numbers. Outputs are in the units of the source, and whole: so the file
computes what the source does. Translation validation (Pnueli, Siegel and Singerman 1998; Necula 2000).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

from bnfold.graph import operators as op
from bnfold.graph.inlined import inlined
from bnfold.graph.operators import kind_of
from bnfold.records.certificate import Certificate
from bnfold.verification.certificate.fixed_conditions import taken_always
from bnfold.verification.certificate.graph import Graph
from bnfold.verification.certificate.judge import Outcome
from bnfold.verification.certificate.nodes import bodies_of
from bnfold.verification.certificate.parameters import MAX_ULPS
from bnfold.verification.certificate.proof import Failed, Options, Proof
from bnfold.verification.certificate.prover import Prover
from bnfold.verification.certificate.sizes import BATCH, default_sizes, other_sizes, sized

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["prove"]

_EMPTY = Certificate({}, {})


def prove(
    file: onnx.ModelProto,
    source: onnx.ModelProto,
    certificate: Certificate | None = None,
    *,
    sizes: Mapping[str, Sequence[int | None]] | None = None,
    seed: int = 0,
    max_ulps: float = MAX_ULPS,
    whole: bool = True,
) -> Proof:
    """Prove that a file computes what its source does.

    Args:
        file: as written, external data loaded.
        source: as read, the same.
        certificate: what the fold says; None leaves the names of values.
        sizes: shapes of the inputs at which operators are compared that depend on them; None inside takes some.
        seed: of the random numbers.
        max_ulps: how far parameters may lie from their digits.
        whole: whether the first failure ends it; else the value is taken for right, and failures are counted.

    Raises:
        InputRefused: a graph cannot be read.
    """
    file, source = inlined(file), inlined(source)
    certificate = certificate or _EMPTY
    options = Options(seed, max_ulps, whole)
    proofs: list[Proof] = []
    changed = _changed_default(file, source)
    if changed is not None:
        failed = Failed(changed, changed, None, Outcome(np.inf), f"the default of input {changed} is another one")
        return Proof(n_failed=1, failed=failed)
    for take in (False, True) if _branches(source) else (False,):
        for batch in (BATCH, 1):
            asked = default_sizes(source, sizes, batch)
            proof = Proof()
            ours, theirs = (_graph(model, asked, _always(model, asked) if take else ()) for model in (file, source))
            Prover(ours, theirs, certificate, "", proof=proof, options=options).run()
            proofs.append(proof)
            if proof.failed is None or np.isfinite(proof.failed.outcome.error):
                return proof
            if asked == default_sizes(source, sizes, 1):  # else a network whose batch is open may yet be but one
                break
    return proofs[0]


def _branches(model: onnx.ModelProto) -> bool:
    """Whether a graph of the model, or one inside it, holds an `If`."""

    def inside(nodes: Iterable[onnx.NodeProto]) -> bool:
        return any(kind_of(node) == op.If or any(inside(body.node) for _, body in bodies_of(node)) for node in nodes)

    return inside(model.graph.node)


def _changed_default(file: onnx.ModelProto, source: onnx.ModelProto) -> str | None:
    """The first input whose default value differs."""
    defaults = [
        {
            t.name: numpy_helper.to_array(t)
            for t in model.graph.initializer
            if t.name in {v.name for v in model.graph.input}
        }
        for model in (file, source)
    ]
    both = defaults[0].keys() & defaults[1].keys()
    return next((name for name in sorted(both) if not np.array_equal(defaults[0][name], defaults[1][name])), None)


def _always(model: onnx.ModelProto, sizes: Mapping[str, Sequence[int]]) -> frozenset[str]:
    """The `If`s whose condition no length can change that the inputs leave open."""
    return taken_always(_graph(model, sizes), _graph(model, other_sizes(model, sizes)))


def _graph(model: onnx.ModelProto, sizes: Mapping[str, Sequence[int]], take: Iterable[str] = ()) -> Graph:
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    inputs = [value.name for value in model.graph.input]
    return Graph(sized(model, sizes).graph, tensors, opsets, inputs, take=frozenset(take))
