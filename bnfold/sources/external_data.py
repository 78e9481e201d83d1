"""The files beside an `.onnx` file that hold its tensors.

https://onnx.ai/onnx/repo-docs/ExternalData.html
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnx_ir as ir
from onnx.external_data_helper import (
    ExternalDataInfo,
    _get_all_tensors,
    load_external_data_for_model,
    uses_external_data,
)

from bnfold.errors import InputRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["external_tensors", "load_with_data", "locate_external_data"]


def load_with_data(path: Path) -> onnx.ModelProto:
    """The model in memory, its external data included; see `locate_external_data` for where these may lie."""
    proto = onnx.load_model(path, load_external_data=False)
    folder, _ = locate_external_data(proto, path)
    load_external_data_for_model(proto, str(folder))
    return proto


def locate_external_data(proto: onnx.ModelProto, path: Path) -> tuple[Path, tuple[Path, ...]]:
    """The folder that holds the external data of a model, and its files, sorted; locations in `proto` become theirs.

    Data lie beside the file as it is named, or beside the file that a link leads to. A link to data leads into one of
    these two folders: caches (that of the Hugging Face hub, say) keep model and data under names of digests, and links
    of the names that belong together in another folder.

    Raises:
        InputRefused: one is missing, too short, or outside the folders (an absolute path, `..`, or a link out of them).
    """
    folders = tuple(dict.fromkeys((path.parent.resolve(), path.resolve().parent)))
    places = [
        (tensor, info, _found(folders, info.location, tensor.name, path)) for tensor, info in _external(proto, path)
    ]
    folder = next((f for f in folders if all(data.is_relative_to(f) for _, _, data in places)), None)
    if folder is None:
        tensor, info, _ = places[0]
        raise _outside(info.location, tensor.name, path)
    for tensor, info, data in places:
        _refuse_truncated(tensor, info, data, path)
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = data.relative_to(folder).as_posix()
    return folder, tuple(sorted({data for _, _, data in places}))


def external_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """The tensors of a model, those in attributes and subgraphs included, that lie in other files."""
    return (tensor for tensor in _get_all_tensors(proto) if uses_external_data(tensor))


def _external(proto: onnx.ModelProto, path: Path) -> Iterator[tuple[onnx.TensorProto, ExternalDataInfo]]:
    for tensor in external_tensors(proto):
        try:
            info = ExternalDataInfo(tensor)
        except ValueError as error:
            raise _damaged(tensor, f"{error}", path) from error
        if min(info.offset or 0, info.length or 0) < 0:
            raise _damaged(tensor, f"offset {info.offset}, length {info.length}", path)
        yield tensor, info


def _found(folders: tuple[Path, ...], location: str, tensor: str, path: Path) -> Path:
    """The file that a location names, links followed."""
    inside = Path(os.path.normpath(location))
    if inside.is_absolute() or inside.parts[:1] in {(), (os.pardir,)}:
        raise _outside(location, tensor, path)
    named = next((folder / inside for folder in folders if (folder / inside).exists()), folders[0] / inside)
    data = named.resolve()
    if not any(data.is_relative_to(folder) for folder in folders):
        raise _outside(location, tensor, path)
    if not data.is_file():
        raise InputRefused(
            f"external data file {location} is missing",
            where=str(path),
            found=f"no {named}",
            expected=f"the data of tensor {tensor}",
            remedy="put it beside the .onnx file",
        )
    return data


def _refuse_truncated(tensor: onnx.TensorProto, info: ExternalDataInfo, data: Path, path: Path) -> None:
    n_bytes = math.ceil(math.prod(tensor.dims) * ir.DataType(tensor.data_type).bitwidth / 8)
    if info.length not in {None, n_bytes}:
        raise _damaged(tensor, f"{info.length} bytes for a tensor of {n_bytes}", path)
    end = (info.offset or 0) + n_bytes
    if data.stat().st_size < end:
        raise InputRefused(
            f"external data file {info.location} is truncated",
            where=str(path),
            found=f"{data.stat().st_size} bytes",
            expected=f"at least {end} for tensor {tensor.name}",
            remedy="copy it again",
        )


def _damaged(tensor: onnx.TensorProto, found: str, path: Path) -> InputRefused:
    return InputRefused(
        f"the place of tensor {tensor.name} in its external data is wrong",
        where=str(path),
        found=found,
        expected="numbers of bytes that hold the tensor",
        remedy="export or copy the file again",
    )


def _outside(location: str, tensor: str, path: Path) -> InputRefused:
    return InputRefused(
        "external data lies outside the model's folder, where bnfold does not read",
        where=str(path),
        found=f"location {location!r} of tensor {tensor}",
        expected="a file in the same folder",
        remedy="put the data file beside the .onnx file and save the model again with that location",
    )
