"""Reading an ONNX model, and checking it against the specification, without its external data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf ships no types

from bnfold.errors import InputRefused
from bnfold.sources.external_data import external_tensors

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SEPARATE_SINCE", "check_structure", "decoded"]

SEPARATE_SINCE = 4
"""The first ONNX IR version where an initializer need not be an input."""


def decoded(path: Path) -> onnx.ModelProto:
    """The file without its external data."""
    try:
        proto = onnx.load_model(path, load_external_data=False)
        whole = proto.HasField("graph") and proto.ir_version > 0 and len(proto.opset_import) > 0
        problem = None if whole else "no graph in it"
    except (DecodeError, ValueError, OSError) as error:
        problem = " ".join(str(error).split())[:200] or type(error).__name__
    if problem is not None:
        raise InputRefused(
            "the .onnx file cannot be decoded: it is truncated or no ONNX file",
            where=str(path),
            found=f"{path.stat().st_size} bytes, {problem}",
            expected="a serialized onnx.ModelProto",
            remedy="copy or export it again",
        )
    return proto


def check_structure(proto: onnx.ModelProto, path: Path | None, *, as_written: bool, spec: str = "") -> None:
    """Check all but the external data, and what ONNX Runtime does without: shapes of outputs, inputs for parameters.

    Args:
        proto: the model, as it goes on from here.
        path: its file, None for a model in memory.
        as_written: whether the file holds the same; where nothing is left out, it is checked without a copy in memory.
        spec: what a model in memory is called in messages.
    """
    whole = as_written and proto.ir_version >= SEPARATE_SINCE and not any(external_tensors(proto))
    try:
        if whole and all(_is_typed(output) for output in proto.graph.output):
            onnx.checker.check_model(path if path is not None and _is_utf8(path) else proto)
        else:
            onnx.checker.check_model(_structure(proto))
    except (onnx.checker.ValidationError, RuntimeError) as error:
        raise InputRefused(
            "the .onnx file breaks the ONNX specification" if path else "the model breaks the ONNX specification",
            where=str(path or spec),
            found=" ".join(str(error).split())[:300],
            remedy="export it again; `onnx.checker.check_model` shows the whole message",
        ) from error


def _is_utf8(path: Path) -> bool:
    """Whether the checker, which reads names as UTF-8, can open the file; in the locale C, Python keeps other bytes."""
    return not any("\udc80" <= sign <= "\udcff" for sign in str(path))


def _is_typed(output: onnx.ValueInfoProto) -> bool:
    tensor_type = output.type.tensor_type
    is_other = output.type.WhichOneof("value") not in {None, "tensor_type"}
    return is_other or (tensor_type.elem_type != 0 and tensor_type.HasField("shape"))


def _structure(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without what `check_structure` leaves out."""
    structure = onnx.ModelProto()
    structure.CopyFrom(proto)
    structure.ir_version = max(structure.ir_version, SEPARATE_SINCE)
    for tensor in external_tensors(structure):
        tensor.ClearField("data_location")
        del tensor.external_data[:]
        tensor.dims[:] = [0]  # which needs no data
    for output in structure.graph.output:
        if not _is_typed(output):
            tensor_type = output.type.tensor_type
            tensor_type.elem_type = tensor_type.elem_type or onnx.TensorProto.FLOAT
            tensor_type.shape.SetInParent()
    return structure
