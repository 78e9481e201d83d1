"""Which operator sets can be written, and the conversion to one that was asked for."""

from __future__ import annotations

import onnx
import onnx.version_converter
import onnx_ir as ir

from bnfold.errors import InputRefused
from bnfold.export.older_opsets import NoWay, lower_opset
from bnfold.export.sizes import fits_protobuf
from bnfold.graph.inference import infer_shapes
from bnfold.graph.inlined import inline_functions

__all__ = ["OLDEST", "OLDEST_NATIVE", "convert_opset", "newest_opset", "refuse_other_opset", "refuse_unknown_opset"]

OLDEST = 11  # from here on axes may be negative, as all that writes graphs has them
OLDEST_NATIVE = 18  # torch.onnx.export(dynamo=True) has implementations from here on
_NEWEST = 25  # the newest that onnxscript, behind torch.onnx.export, converts to

_REFUSALS = (RuntimeError, ValueError, onnx.version_converter.ConvertError, onnx.checker.ValidationError)


def newest_opset() -> int:
    """The newest opset that can be asked for with the installed onnx package."""
    return min(_NEWEST, int(onnx.defs.onnx_opset_version()))


def refuse_unknown_opset(opset: int) -> None:
    """Refuse an opset that is not written.

    Raises:
        InputRefused: names the range.
    """
    if not OLDEST <= opset <= newest_opset():
        raise InputRefused(
            f"opset must be {OLDEST} to {newest_opset()}, got {opset}",
            remedy="choose one of these with --opset, or leave it out",
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
            remedy=f"leave --opset out ({native}), or choose an older one",
        )


def convert_opset(model: ir.Model, opset: int, *, where: str) -> ir.Model:
    """Convert a graph to another opset; nodes keep their names and metadata.

    Down by `older_opsets`, up by ONNX's version converter: https://onnx.ai/onnx/api/version_converter.html

    Args:
        model: unchanged.
        opset: of the default domain.
        where: the source, for messages.

    Raises:
        InputRefused: there is no exact way; names the operator.
    """
    current = model.opset_imports.get("") or 1
    if current == opset:
        return model
    if opset > current:
        return _raised(model, opset, where)
    lowered = model.clone()
    inline_functions(lowered)
    infer_shapes(lowered)
    try:
        lower_opset(lowered, opset)
    except NoWay as no_way:
        raise _not_convertible(model, opset, where, str(no_way)) from no_way
    return lowered


def _raised(model: ir.Model, opset: int, where: str) -> ir.Model:
    if not fits_protobuf(model):
        raise _not_convertible(model, opset, where, "a model over 2 GB")
    try:
        proto = onnx.version_converter.convert_version(ir.to_proto(model), opset)
        onnx.checker.check_model(proto)
    except _REFUSALS as error:
        raise _not_convertible(model, opset, where, _without_place(error)) from error
    converted = ir.from_proto(proto)
    _take_back_symbols(converted, model)
    if converted.opset_imports.get("") != opset or _interface(converted) != _interface(model):
        raise _not_convertible(model, opset, where, "the converter changed inputs or outputs")
    metadata = {node.name: dict(node.metadata_props) for node in model.graph.all_nodes() if node.name}
    for node in converted.graph.all_nodes():
        node.metadata_props.update(metadata.get(node.name or "", {}))
    return converted


def _without_place(error: Exception) -> str:
    """What the converter says, without the line of its source: "No Adapter From Version $8 for Upsample"."""
    text = " ".join(str(error).split())
    return text.rpartition("failed: ")[2][-200:]


def _take_back_symbols(converted: ir.Model, model: ir.Model) -> None:
    """Let outputs have the shapes of the source: the converter infers numbers where it has names or nothing."""
    for value, own in zip(converted.graph.outputs, model.graph.outputs, strict=False):
        if own.shape is None or (value.shape is not None and _is_told_by(value.shape, own.shape)):
            value.shape = own.shape


def _is_told_by(found: ir.Shape, own: ir.Shape) -> bool:
    """Whether a shape differs from the source's only where that has no number."""
    return len(found) == len(own) and all(not isinstance(n, int) or n == m for m, n in zip(found, own, strict=True))


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
        remedy=f"leave --opset out, or choose one nearer to {now}",
    )
