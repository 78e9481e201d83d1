"""The certificate of a folded module: its graph proven operator by operator, its parameters those of the proof."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from onnx import numpy_helper

from bnfold.errors import GateFailed
from bnfold.graph import operators as op
from bnfold.graph.operators import kind_of
from bnfold.records.base import few
from bnfold.verification.certificate import MAX_ULPS, ulps
from bnfold.verification.checks.proof import certified
from bnfold.verification.execution.torch_float64 import to_array

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import onnx
    from torch import nn

    from bnfold.modules.places import Place
    from bnfold.modules.solve import Solution
    from bnfold.modules.writing import Writing
    from bnfold.numerics.affine import Float64
    from bnfold.sources.types import TorchSource

__all__ = ["check_graph", "check_parameters"]

log = logging.getLogger("bnfold.modules")

_REMEDY = "report it with the network's code; the module stays as it is"


def check_graph(
    source: TorchSource, before: onnx.ModelProto, after: onnx.ModelProto, solution: Solution, batch: int | None
) -> None:
    """Prove the folded graph of a module by its certificate, see `bnfold.verification.certificate`.

    What cannot be proven operator by operator is logged: the module is compared on inputs all the same.

    Args:
        source: the module.
        before: its graph as exported; its variances are taken into float64, with what belongs to epsilon in them.
        after: the same, folded.
        solution: what it becomes, and what the fold says of it.
        batch: the only one that it runs at, or None.

    Raises:
        GateFailed: a value is not what the certificate says.
    """
    sizes = {spec.name: (batch, *spec.shape[1:]) if spec.has_batch else spec.shape for spec in source.inputs}
    in_code = _restore_variances(before, solution.variances)
    proof = certified(after, before, solution.ledger.certificate, sizes=sizes)
    where = source.facts.spec
    if proof.failure is not None and in_code:
        log.info("%s: compared on inputs only: %s: epsilon is in the code of forward", where, few(in_code))
    elif proof.failure is not None:
        layer = "" if proof.departure is None else f" at {proof.departure.layer}"
        raise GateFailed(f"the folded graph is not equal{layer}", where=where, found=proof.failure, remedy=_REMEDY)
    elif proof.facts is not None:
        log.info("%s: %d of %d regions certified", where, proof.facts.certified, proof.facts.regions)
    else:
        log.info("%s: compared on inputs only: %s", where, proof.unknown)


def _restore_variances(model: onnx.ModelProto, variances: Mapping[str, Float64]) -> list[str]:
    """Give variances of these names these digits, in place; those that no parameter holds come back.

    Mean and variance of a BatchNormalization have one type, which need not be that of its other inputs.
    https://onnx.ai/onnx/operators/onnx__BatchNormalization.html
    """
    parameters = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if kind_of(node) == op.BatchNormalization and node.input[4] in variances:
            for name in {*node.input[3:5]} & parameters.keys():
                digits = variances.get(name, numpy_helper.to_array(parameters[name]))
                parameters[name].CopyFrom(numpy_helper.from_array(digits.astype("float64"), name))
    return sorted(variances.keys() - parameters.keys())


def check_parameters(folded: nn.Module, writing: Writing, where: str) -> None:
    """Hold each new parameter to half a unit in the last place (ULP) of the float64 digits that were proven.

    Raises:
        GateFailed: a parameter is another one.
    """
    parts = dict(folded.named_modules())
    for place, exact in _present(writing, parts).items():
        distance = ulps(exact, to_array(getattr(parts[place.path], place.attribute)))
        if not distance <= MAX_ULPS:
            raise GateFailed(
                f"parameter {place} of the folded module is not what was proven", where=where,
                found=f"{distance:.3g} ULP from it", expected=f"at most {MAX_ULPS}", remedy=_REMEDY,
            )  # fmt: skip


def _present(writing: Writing, parts: Mapping[str, object]) -> dict[Place, np.ndarray]:
    """The parameters that are written and still there: not those of BatchNorms that vanished."""
    gone = {place for vanished in writing.vanished.values() for place in vanished.places}
    return {place: array for place, array in writing.parameters.items() if place not in gone and place.path in parts}
