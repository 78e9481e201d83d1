"""From a loaded source to the graph of its file, with the ledger, and with the facts in its metadata."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bnfold.workflows.accounts import check_file, fold_accounted

if TYPE_CHECKING:
    import onnx
    import torch

    from bnfold.records import FileFacts, GraphFacts, Ledger
    from bnfold.sources.types import Source
    from bnfold.workflows.stopwatch import Stopwatch

__all__ = ["Conversion", "convert", "into_metadata", "measured_conversion", "with_facts"]


@dataclass(frozen=True)
class Conversion:
    """The graph before and after, what happened to each BatchNorm, and the program that PyTorch's exporter went by."""

    plain: onnx.ModelProto
    folded: onnx.ModelProto
    ledger: Ledger
    graph: GraphFacts
    program: torch.export.ExportedProgram | None = None


def convert(
    source: Source,
    watch: Stopwatch,
    *,
    opset: int | None,
    static_batch: int | None,
    provider: str,
    simplify: bool = True,
    bytes_read: bool = False,
) -> Conversion:
    """Export, fold and simplify a source.

    Args:
        source: as loaded.
        watch: of the stages.
        opset: of the file; None takes the source's or the exporter's own.
        static_batch: that the file is fixed at; None leaves it dynamic.
        provider: what the file is made for.
        simplify: whether onnxsim simplifies the folded graph.
        bytes_read: whether convolutions are to read the bytes of images that a file takes: its nodes that normalise
            these go into the weights, whatever a channel of ones costs.

    Raises:
        InputRefused: the source cannot be exported, folded or converted.
        RuntimeError: the ledger does not add up; a fault of bnfold.
    """
    import onnx_ir as ir

    from bnfold.export import finish, graph_facts, plain_export
    from bnfold.graph.preprocessing_nodes import image_of_bytes
    from bnfold.verification.certificate.joined import with_joined

    with watch.stage("export"):
        exported = plain_export(source, opset=opset, static_batch=static_batch)
        model, plain = exported.model, ir.to_proto(exported.model)
    with watch.stage("fold"):
        pixels = source.form.input if source.form else image_of_bytes(model) if bytes_read else None
        ledger = fold_accounted(model, provider=provider, pixels=pixels, bytes_read=bytes_read)
        if source.form is None and ledger.preprocessing is not None and ledger.preprocessing.outcome == "explicit":
            ledger = replace(ledger, preprocessing=None)  # nodes of a file's own stay, and nobody asked after them
    with watch.stage("simplify"):
        folded = finish(model, opset=opset, where=source.facts.spec, simplify=simplify)
        ledger = replace(ledger, certificate=with_joined(ledger.certificate, folded, plain))
        graph = graph_facts(plain, folded)
    check_file(ledger, n_left=graph.batchnorm_after)
    return Conversion(plain, folded, ledger, graph, exported.program)


def measured_conversion(conversion: Conversion, **options: Any) -> Conversion:
    """The conversion, or one that folds in another way if that is measured faster."""
    from bnfold.export import graph_facts
    from bnfold.workflows.measured import fastest_variant

    folded, ledger = fastest_variant(conversion.plain, conversion.folded, conversion.ledger, **options)
    graph = graph_facts(conversion.plain, folded)
    check_file(ledger, n_left=graph.batchnorm_after)
    return Conversion(conversion.plain, folded, ledger, graph)


def into_metadata(facts: FileFacts, source: Source, conversion: Conversion) -> FileFacts:
    """Write what is known of the folded file into its metadata; the facts, completed, come back."""
    from bnfold.export import complete_facts, write_facts

    facts = complete_facts(facts, source, conversion.plain, conversion.ledger)
    write_facts(conversion.folded, facts)
    return facts


def with_facts(plain: onnx.ModelProto, conversion: Conversion, facts: FileFacts) -> onnx.ModelProto:
    """The file to compare with: an `.onnx` source as it is, an export with the same metadata but for the ledger."""
    from bnfold.export import write_facts

    if plain is not conversion.plain:
        write_facts(plain, replace(facts, ledger=None))
    return plain
