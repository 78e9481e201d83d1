"""What a proof has found, in the user's names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from bnfold.graph import operators as op
from bnfold.graph.inlined import inlined
from bnfold.graph.layers import layer_name
from bnfold.graph.operators import kind_of
from bnfold.records import CertificateFacts, Departure

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import onnx
    from onnx import NodeProto

    from bnfold.verification.certificate.proof import Failed, Proof

__all__ = ["COMPARED_WITH", "departure_of", "facts_of"]

COMPARED_WITH = "the source, operator by operator"
_LINEAR = frozenset({op.Conv, op.ConvTranspose, op.Gemm, op.GRU, op.LSTM, op.MatMul, op.RNN})


def facts_of(proof: Proof, source: onnx.ModelProto) -> CertificateFacts:
    """The facts for a report."""
    layers: tuple[tuple[str, ...], ...] = ()
    if proof.large_regions:
        named = _writers(source)
        layers = tuple(
            tuple(dict.fromkeys(layer_name(named[name]) for name in region if name in named))
            for region in proof.large_regions
        )
    return CertificateFacts(
        proof.regions,
        proof.certified,
        proof.largest_region,
        proof.unexcited_channels,
        proof.largest_error,
        proof.max_ulps,
        layers,
    )


def departure_of(failed: Failed, source: onnx.ModelProto) -> Departure:
    """The first layer that is not proven."""
    named = _writers(source)
    region = failed.region
    names = [node.output[0] for node in region.source.operators] if region is not None else [failed.counterpart]
    nodes = [named[name] for name in names if name in named] or [
        node for node in named.values() if any(v is not None and v.name == failed.counterpart for v in node.inputs)
    ]
    written = region.file.operators if region is not None else ()
    operator = _first([node.op_type for node in written if kind_of(node) in _LINEAR], [n.op_type for n in written][-1:])
    layer = _layer(nodes, operator) if nodes else _of_file(written) or failed.value
    return Departure(
        layer=layer,
        operator=operator or (nodes[-1].op_type if nodes else ""),
        value=failed.value,
        error=failed.outcome.error,
        inputs_error=0.0,
        compared_with=COMPARED_WITH,
        source_layers=tuple(dict.fromkeys(layer_name(node) for node in nodes)),
    )


def _writers(source: onnx.ModelProto) -> dict[str, ir.Node]:
    """The nodes of the source by what they write, bodies included."""
    model = ir.from_proto(inlined(source))
    return {str(value.name): node for node in model.graph.all_nodes() for value in node.outputs if value.name}


def _layer(nodes: Sequence[ir.Node], operator: str) -> str:
    """The last node with parameters that has the file's operator, or is linear; else the last with any, or at all."""
    trained = [n for n in nodes if any(v is not None and v.const_value is not None for v in n.inputs)]
    alike = [node for node in trained if node.op_type == operator]
    linear = [node for node in trained if kind_of(node) in _LINEAR]
    some = next(group for group in (alike, linear, trained, nodes) if group)
    return layer_name(some[-1])


def _of_file(nodes: Sequence[NodeProto]) -> str:
    return nodes[-1].name.rpartition("/")[0] if nodes else ""


def _first(*groups: Iterable[str]) -> str:
    return next((item for group in groups for item in group), "")
