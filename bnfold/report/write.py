"""Reports as files, complete or absent."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from bnfold.errors import unwritable
from bnfold.records import as_json

__all__ = ["write_bytes", "write_json"]


def write_json(record: Any, target: str | Path) -> None:
    """Write a record as JSON, UTF-8, two blanks of indentation, a line feed at the end.

    A file is written beside its place and renamed, so that nobody ever reads half of it; see `write_bytes`.

    Args:
        record: a record, or plain JSON values.
        target: the file, or "-" for standard output.

    Raises:
        EnvironmentNotReady: the disk is full.
        InputRefused: the file cannot be written.
    """
    text = json.dumps(as_json(record), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    if str(target) == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    write_bytes(text.encode(), Path(target))


def write_bytes(content: bytes, path: Path) -> None:
    """Write a file beside its place and rename it; into a device or a pipe, as it is.

    Behind a symbolic link the file it leads to is replaced, and the link stays.

    Raises:
        EnvironmentNotReady: the disk is full.
        InputRefused: the file cannot be written.
    """
    try:
        if path.exists() and not path.is_file():
            _write_into(path, content)
        else:
            _replace(Path(os.path.realpath(path)), content)
    except OSError as error:
        remedy = "choose a file in a folder that exists and that you can write to"
        raise unwritable("cannot write the report", error, where=str(path), remedy=remedy) from error


def _write_into(path: Path, content: bytes) -> None:
    """Write to what exists and is no regular file."""
    with os.fdopen(os.open(path, os.O_WRONLY), "wb") as stream:
        stream.write(content)


def _replace(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=".bnfold-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        Path(name).chmod(0o666 & ~_umask())  # mkstemp leaves the file to its owner alone
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _umask() -> int:
    """The process's umask; reading it means setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
