"""The digest by which two `.onnx` files are known to be one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["file_sha256", "sha256_of"]


def sha256_of(files: Sequence[Path]) -> str:
    """SHA-256 of files, one after the other, in hexadecimal digits."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of an `.onnx` file and of its external data behind it, in the order of their names.

    Of a file of ONNX Runtime's own format, and of one that only ONNX Runtime can read, the file's bytes alone.

    Raises:
        InputRefused: external data is missing, too short, or outside the file's folder.
    """
    return sha256_of([path, *_data_of(path)])


def _data_of(path: Path) -> tuple[Path, ...]:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf ships no types

    from bnfold.runtime import is_ort_format
    from bnfold.sources.external_data import locate_external_data

    if is_ort_format(path):
        return ()
    try:
        proto = onnx.load_model(path, load_external_data=False)
    except DecodeError:
        return ()
    return locate_external_data(proto, path)[1]
