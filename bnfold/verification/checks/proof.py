"""A file against its source operator by operator: by the certificate of its fold, or that of the source folded again.

The statements of a certificate are proven, whoever makes them (`bnfold.verification.certificate`). Of a file that
bnfold made, and whose certificate was not kept, the source folded again says them; where the file turns out to be in
other units than that fold, nothing is known of it.
"""

from __future__ import annotations

import gc
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onnx import TensorProto

from bnfold.errors import InputRefused
from bnfold.folding import CHANNEL_BLOCK, fold_model
from bnfold.graph import operators as op
from bnfold.graph.inlined import inlined
from bnfold.graph.operators import kind_of
from bnfold.runtime.providers import known_providers
from bnfold.verification.certificate import Proof, departure_of, facts_of, prove

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import onnx
    import onnx_ir as ir

    from bnfold.records import Certificate, CertificateFacts, Departure

__all__ = ["Certified", "certified"]

MAX_ULPS = 0.5
MAX_ULPS_OF_ANOTHER_FOLD = 1.0  # as much again for float64 sums in another order, on another machine
_PRODUCER = "bnfold"
_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16})


@dataclass(frozen=True)
class Certified:
    """What is proven: the facts, a failure in words and where, or why nothing is known.

    Attributes:
        facts: of the proof, where it came to its end.
        failure: an operator of the file is not what the certificate says, in a sentence.
        departure: where that is.
        skipped: why nothing is known of the file, whatever it computes: it has no certificate, or
        unproven: an operator of it cannot be proven, in a sentence.
    """

    facts: CertificateFacts | None = None
    failure: str | None = None
    departure: Departure | None = None
    skipped: str | None = None
    unproven: str | None = None

    @property
    def is_proven(self) -> bool:
        """Whether every operator is."""
        return self.facts is not None and self.failure is None

    @property
    def unknown(self) -> str | None:
        """Why the file is verified on inputs only, None where it is not."""
        return self.skipped or self.unproven


def certified(
    file: onnx.ModelProto,
    source: onnx.ModelProto,
    certificate: Certificate | None,
    *,
    sizes: Mapping[str, Sequence[int | None]],
    seed: int = 0,
) -> Certified:
    """Prove a file by its certificate, or by that of the source folded again.

    Args:
        file: with its external data.
        source: the unfolded graph of its source; unchanged.
        certificate: None where none was kept.
        sizes: shapes of the inputs, None on dynamic axes.
        seed: of the random numbers.
    """
    try:
        if certificate is None:
            return _folded_again(file, source, sizes, seed)
        graph = inlined(source)
        return _outcome(prove(file, graph, certificate, sizes=sizes, seed=seed, max_ulps=MAX_ULPS), graph)
    except InputRefused as refused:
        return Certified(unproven=f"a graph cannot be read operator by operator: {refused}")


def _variants() -> Iterator[tuple[bool, bool, bool, int]]:
    """Of a fold: what `fold-export` takes for other targets, and may have taken with `--measure`, comes last."""
    blocks = dict.fromkeys(spec.channel_block or CHANNEL_BLOCK for spec in known_providers().values())
    return itertools.product((False, True), (True, False), (True, False), blocks)


def _folded_again(
    file: onnx.ModelProto, source: onnx.ModelProto, sizes: Mapping[str, Sequence[int | None]], seed: int
) -> Certified:
    import onnx_ir as ir

    if file.producer_name != _PRODUCER:
        made_by = file.producer_name or "an unnamed tool"
        return Certified(skipped=f"the file was made by {made_by}, and has no certificate")
    certificate = None
    try:
        for move, merge, remove, block in _variants():
            model = ir.from_proto(source)
            ledger = fold_model(
                model, move_behind_relus=move, merge_branches=merge, remove_channels=remove, channel_block=block,
                rounded=False,
            )  # fmt: skip
            if _holds_parameters_of(file, model):
                certificate = ledger.certificate
                break
    except InputRefused as refused:
        return Certified(skipped=f"the source cannot be folded: {refused}")
    del model, ledger
    if certificate is None:
        return Certified(skipped="the file holds other parameters than a fold of the source, and has no certificate")
    graph = inlined(source)
    proof = prove(file, graph, certificate, sizes=sizes, seed=seed, max_ulps=MAX_ULPS_OF_ANOTHER_FOLD, whole=False)
    del certificate
    gc.collect()  # the nodes and values of a folded graph refer to each other
    if proof.n_failed > proof.n_compared / 2:
        return Certified(skipped="the file is in other units than a fold made here, and has no certificate")
    return _outcome(proof, graph)


def _holds_parameters_of(file: onnx.ModelProto, model: ir.Model) -> bool:
    """Whether the fold has a parameter of the same name, shape and type for each of the file's.

    A file may lack some: of equal tensors, onnxsim keeps one. Scales of a Resize it may have computed.
    """
    import onnx_ir as ir

    computed = {
        name for node in file.graph.node if kind_of(node) in (op.Resize, op.Upsample) for name in node.input[1:]
    }
    kinds = {name: (tuple(v.shape or ()), v.dtype) for name, v in model.graph.initializers.items()}
    return all(
        kinds.get(tensor.name) == (tuple(tensor.dims), ir.DataType(tensor.data_type))
        for tensor in file.graph.initializer
        if tensor.data_type in _FLOATS and tensor.name not in computed
    )


def _outcome(proof: Proof, source: onnx.ModelProto) -> Certified:
    facts = facts_of(proof, source)
    if proof.failed is None:
        return Certified(facts)
    departure = departure_of(proof.failed, source)
    if not proof.failed.is_known:
        return Certified(unproven=f"{departure.layer} cannot be proven: {proof.failed.reason}")
    return Certified(facts, f"it is not proven: {proof.failed.reason}", departure)
