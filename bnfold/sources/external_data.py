"""The files beside an `.onnx` file that hold its tensors.

https://onnx.ai/onnx/repo-docs/ExternalData.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx.external_data_helper import ExternalDataInfo, _get_all_tensors, uses_external_data

from bnfold.errors import InputRefused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import onnx

__all__ = ["external_files"]


def external_files(proto: onnx.ModelProto, path: Path) -> tuple[Path, ...]:
    """The external data files of a model, sorted, each inside the model's folder and long enough.

    Raises:
        InputRefused: one is missing, too short, or outside the folder (an absolute path, `..`, or a link out of it).
    """
    folder = path.resolve().parent
    files = set()
    for tensor, info in _external_tensors(proto):
        data = _inside(folder, info.location, tensor.name, path)
        end = (info.offset or 0) + (info.length or 0)
        if not data.is_file():
            raise InputRefused(
                f"external data file {info.location} is missing",
                where=str(path),
                found=f"no {data}",
                expected=f"the data of tensor {tensor.name}",
                remedy="put it beside the .onnx file",
            )
        if data.stat().st_size < end:
            raise InputRefused(
                f"external data file {info.location} is truncated",
                where=str(path),
                found=f"{data.stat().st_size} bytes",
                expected=f"at least {end} for tensor {tensor.name}",
                remedy="copy it again",
            )
        files.add(data)
    return tuple(sorted(files))


def _external_tensors(proto: onnx.ModelProto) -> Iterator[tuple[onnx.TensorProto, ExternalDataInfo]]:
    for tensor in _get_all_tensors(proto):
        if uses_external_data(tensor):
            yield tensor, ExternalDataInfo(tensor)


def _inside(folder: Path, location: str, tensor: str, path: Path) -> Path:
    data = (folder / location).resolve()
    if not location or not data.is_relative_to(folder) or data == folder:
        raise InputRefused(
            "external data lies outside the model's folder, where bnfold does not read",
            where=str(path),
            found=f"location {location!r} of tensor {tensor}",
            expected="a file in the same folder",
            remedy="put the data file beside the .onnx file and save the model again with that location",
        )
    return data
