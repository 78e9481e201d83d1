"""Which operator sets can be written, and the conversion to one that was asked for."""

from __future__ import annotations

import onnx
import onnx.version_converter
import onnx_ir as ir

from bnfold.errors import InputRefused
from bnfold.export.sizes import fits_protobuf

__all__ = ["OLDEST_NATIVE", "convert_opset", "refuse_other_opset", "refuse_unknown_opset"]

OLDEST_NATIVE = 18  # torch.onnx.export(dynamo=True) has implementations from here on


def refuse_unknown_opset(opset: int) -> None:
    """Refuse an opset that the installed onnx package does not know.

    Raises:
        InputRefused: names the newest known one.
    """
    newest = onnx.defs.onnx_opset_version()
    if not 7 <= opset <= newest:
        raise InputRefused(
            "unknown opset",
            found=str(opset),
            expected=f"7 to {newest}, the opsets that onnx {onnx.__version__} knows",
            remedy=f"choose --opset {OLDEST_NATIVE} to {newest - 1}, or leave it out",
        )


def refuse_other_opset(model: ir.Model, opset: int | None, *, native: str) -> None:
    """Refuse a graph that was written in another opset than the one asked for.

    Args:
        model: the graph.
        opset: the one asked for, None for any.
        native: the opset an export without --opset would have, for the message.

    Raises:
        InputRefused: names the opset found.
    """
    found = model.opset_imports.get("")
    if opset is not None and found != opset:
        raise InputRefused(
            "the exporter cannot write the opset asked for",
            found=f"opset {found}",
            expected=f"opset {opset}",
            remedy=f"leave --opset out ({native}), or choose one between {OLDEST_NATIVE} and {opset - 1}"
            if opset > OLDEST_NATIVE
            else f"leave --opset out ({native}), or choose {OLDEST_NATIVE} or newer",
        )


def convert_opset(model: ir.Model, opset: int, *, where: str) -> ir.Model:
    """Convert a graph with ONNX's version converter; nodes keep their names and metadata.

    https://onnx.ai/onnx/api/version_converter.html

    Args:
        model: unchanged.
        opset: of the default domain.
        where: the source, for messages.

    Raises:
        InputRefused: the converter has no exact way, or it changed the names of inputs or outputs.
    """
    if model.opset_imports.get("") == opset:
        return model
    if not fits_protobuf(model):
        raise _not_convertible(model, opset, where, "a model over 2 GB")
    try:
        proto = onnx.version_converter.convert_version(ir.to_proto(model), opset)
    except (RuntimeError, ValueError, onnx.version_converter.ConvertError) as error:
        raise _not_convertible(model, opset, where, " ".join(str(error).split())[-200:]) from error
    converted = ir.from_proto(proto)
    if converted.opset_imports.get("") != opset or _interface(converted) != _interface(model):
        raise _not_convertible(model, opset, where, "the converter changed inputs or outputs")
    metadata = {node.name: dict(node.metadata_props) for node in model.graph.all_nodes() if node.name}
    for node in converted.graph.all_nodes():
        node.metadata_props.update(metadata.get(node.name or "", {}))
    return converted


def _interface(model: ir.Model) -> list[tuple[str | None, object, object]]:
    values = [*model.graph.inputs, *model.graph.outputs]
    initializers = model.graph.initializers
    return [(value.name, value.dtype, value.shape) for value in values if value.name not in initializers]


def _not_convertible(model: ir.Model, opset: int, where: str, found: str) -> InputRefused:
    now = model.opset_imports.get("")
    return InputRefused(
        f"the graph cannot be converted from opset {now} to {opset}",
        where=where,
        found=found,
        remedy=f"leave --opset out to keep opset {now}",
    )
