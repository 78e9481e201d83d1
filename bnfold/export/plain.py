"""The plain graph: what the source computes, in ONNX, before anything is folded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnfold.errors import InputRefused
from bnfold.export.metadata import keep_layer_names
from bnfold.export.opsets import refuse_unknown_opset
from bnfold.export.zero_bias import drop_zero_biases
from bnfold.graph import operators as op
from bnfold.graph.canonical import canonicalise
from bnfold.graph.inlined import inline_functions
from bnfold.graph.operators import kind_of
from bnfold.graph.preprocessing_nodes import insert_preprocessing
from bnfold.sources.onnx_checks import refuse_training_mode
from bnfold.sources.types import OnnxSource

if TYPE_CHECKING:
    import onnx_ir as ir
    import torch

    from bnfold.sources.types import Source

__all__ = ["PlainExport", "plain_export", "plain_graph"]


@dataclass(frozen=True)
class PlainExport:
    """The plain graph, and the program that PyTorch's exporter made it from, if it did: their values share names."""

    model: ir.Model
    program: torch.export.ExportedProgram | None = None


def plain_graph(source: Source, *, opset: int | None = None, static_batch: int | None = None) -> ir.Model:
    """The graph of `plain_export`, with its arguments."""
    return plain_export(source, opset=opset, static_batch=static_batch).model


def plain_export(source: Source, *, opset: int | None = None, static_batch: int | None = None) -> PlainExport:
    """The unoptimized ONNX graph of a source: every BatchNorm is still a node, the batch axis is dynamic.

    Nodes keep the name of their layer in the metadata (`bnfold.export.layer_of`), nothing else of the metadata is left.
    The initializers share the memory of the source's parameters: replace them, never write into them.

    Args:
        source: as loaded by `bnfold.sources.load_source`.
        opset: that the finished file shall have. PyTorch's exporter writes it from 18 on, and 18 for an older one; an
            `.onnx` file keeps its own here: `finish` converts what is folded, of which more can be converted.
        static_batch: a fixed batch size; None for a dynamic batch axis (an `.onnx` file and a `.pt2` file keep theirs).

    Raises:
        InputRefused: the source cannot be exported like this.
    """
    if static_batch is not None and static_batch < 1:
        raise InputRefused(
            f"--static-batch must be at least 1, got {static_batch}",
            remedy="give the fixed batch size, or leave it out",
        )
    if isinstance(source, OnnxSource):
        if opset is not None and opset != source.model.opset_imports.get(""):
            refuse_unknown_opset(opset)
        plain = PlainExport(_from_onnx(source, static_batch=static_batch))
    else:
        from bnfold.export.torch_export import export_torch

        exported = export_torch(source.without_form, opset=opset, static_batch=static_batch)
        plain = PlainExport(exported.model, exported.exported_program)
        if source.form is not None:
            insert_preprocessing(plain.model, source.form)
        refuse_training_mode(plain.model, source.facts.spec)
    model = plain.model
    drop_zero_biases(model)
    if any(_normalizes_constant(node) for node in model.graph):
        inline_functions(model)
        canonicalise(model)  # weight standardization: a batch norm over a weight, which is no layer of the network
    keep_layer_names(model, keep_model_properties=isinstance(source, OnnxSource))
    return plain


def _normalizes_constant(node: ir.Node) -> bool:
    """Whether a node is a BatchNormalization of something that does not depend on an input of the graph."""
    if kind_of(node) != op.BatchNormalization:
        return False
    pending, seen = [node.inputs[0]], set()
    while pending:
        value = pending.pop()
        if value is None or value in seen:
            continue
        seen.add(value)
        if value.is_graph_input():
            return False
        producer = value.producer()
        pending += [] if producer is None else producer.inputs
    return True


def _from_onnx(source: OnnxSource, *, static_batch: int | None) -> ir.Model:
    import onnx_ir as ir

    model = ir.external_data.load_to_model(source.model.clone())  # what is made of it lies in another folder
    if static_batch is not None:
        _fix_batch(model, source, static_batch)
    return model


def _fix_batch(model: ir.Model, source: OnnxSource, batch: int) -> None:
    """Replace the symbol of the batch by a size, wherever it stands in the graph's shapes."""
    import onnx_ir as ir

    symbols: set[str] = set()
    specs = {spec.name: spec for spec in source.inputs if spec.has_batch}
    for value in model.graph.inputs:
        spec = specs.get(str(value.name))
        if spec is None or spec.batch_axis is None or value.shape is None:
            continue
        if spec.fixed_batch not in (None, batch):
            raise InputRefused(
                f"input {value.name} has a fixed batch already",
                where=source.facts.spec,
                found=f"batch {spec.fixed_batch}",
                expected=f"a dynamic batch, or {batch}",
                remedy="leave --static-batch out",
            )
        size = value.shape[spec.batch_axis]
        if isinstance(size, ir.SymbolicDim) and size.value is not None:
            symbols.add(size.value)
        sizes = list(value.shape.dims)
        sizes[spec.batch_axis] = batch
        value.shape = ir.Shape(sizes)
    outputs = [output for node in model.graph.all_nodes() for output in node.outputs]
    for value in (*model.graph.inputs, *outputs):
        if value.shape is not None:
            sizes = [batch if getattr(size, "value", None) in symbols else size for size in value.shape.dims]
            value.shape = ir.Shape(sizes)
