"""`.pt2` archives, read without running the code that one may hold."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
import zipfile
from typing import TYPE_CHECKING

from bnfold.errors import InputRefused
from bnfold.interrupts import interruptible
from bnfold.sources.usercode import described

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import torch

__all__ = ["read_program"]

CODE_PREFIXES = ("custom_obj", "opaque_obj")  # pickled Python objects in a .pt2 archive


def read_program(path: Path) -> torch.export.ExportedProgram:
    """The exported program of an archive.

    Raises:
        InputRefused: damaged, none of torch.export, or one that wants to run code.
    """
    import torch

    if zipfile.is_zipfile(path) and _pickled_objects(path):
        raise _wants_code(path)
    try:
        with interruptible(), _no_code(), _quiet_reader():
            return torch.export.load(path)
    except Exception as error:
        if "weights_only" in str(error).lower():
            raise _wants_code(path) from error
        raise InputRefused(
            "the .pt2 file is damaged or not one of torch.export",
            where=str(path),
            found=f"{path.stat().st_size} bytes, {described(error)[:200]}",
            remedy="write it again with torch.export.save(torch.export.export(model, args), 'model.pt2')",
        ) from error


def _pickled_objects(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return [name for name in archive.namelist() if name.rpartition("/")[2].startswith(CODE_PREFIXES)]


@contextlib.contextmanager
def _no_code() -> Iterator[None]:
    """Let `torch.load` inside PyTorch's own reader read tensors only; it would run pickled code.

    https://docs.pytorch.org/docs/stable/notes/serialization.html
    """
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    old = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if old is None:
            del os.environ[name]
        else:
            os.environ[name] = old


@contextlib.contextmanager
def _quiet_reader() -> Iterator[None]:
    """Silence what PyTorch's reader says of a file that we refuse in one line, and of its own deprecated calls."""
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _wants_code(path: Path) -> InputRefused:
    return InputRefused(
        "the .pt2 file holds a pickle that wants to run code, which bnfold never does",
        where=str(path),
        expected="tensors only",
        remedy="export the network without custom objects among its constants",
    )
