"""Writing an ONNX file, with external data beside it where one file cannot hold it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from bnfold.export.sizes import proto_fits

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["save"]

EXTERNAL_THRESHOLD = 1024  # bytes; smaller tensors stay in the file, where shape inference reads them


def save(proto: onnx.ModelProto, path: Path) -> tuple[Path, ...]:
    """Write a model: one file below 2 GB, else PATH and PATH.data beside it.

    Args:
        proto: unchanged; the same model gives the same bytes.
        path: of the `.onnx` file. The data file is found by its name, so both move together and keep their names.

    Returns:
        The files written.

    Raises:
        OSError: the folder cannot be written to.
        onnx.checker.ValidationError: a large model, which could not be checked in memory, breaks the specification.
    """
    if proto_fits(proto):
        path.write_bytes(proto.SerializeToString(deterministic=True))
        return (path,)
    data = path.with_name(f"{path.name}.data")
    data.unlink(missing_ok=True)  # onnx appends to an existing one
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    onnx.save_model(copy, path, save_as_external_data=True, location=data.name, size_threshold=EXTERNAL_THRESHOLD)
    data.chmod(path.stat().st_mode)  # onnx makes it readable by its owner alone
    onnx.checker.check_model(path)
    return (path, data)
