"""Checkpoints of a run in progress: one file each, complete or absent, and its digest in its name.

    checkpoint-00000123-0f3a5c7e9b1d2f4a.safetensors     after 123 steps; the first 16 digits of the file's SHA-256

The latest two are kept: should the latest be damaged, there is the one before. Nothing in it is a pickle.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bnfold.errors import EnvironmentNotReady, InputRefused
from bnfold.sources.unfinished import NAME, SCHEMA, decoded, digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import torch

__all__ = ["Checkpoint", "list_checkpoints", "read_checkpoint", "write_checkpoint"]

_N_KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and is whole: the two halves of `snapshot.capture`, and the job they belong to."""

    path: Path
    tensors: Mapping[str, torch.Tensor]
    facts: Mapping[str, Any]
    job: Mapping[str, Any]


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, the oldest first."""
    found = [(int(match[1]), path) for path in _files(folder) if (match := NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def write_checkpoint(
    folder: Path, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any], job: Mapping[str, Any], *, step: int
) -> Path:
    """Write a checkpoint into an existing folder, then remove all but the latest two.

    It is written under another name, to the disk, and renamed: whoever is interrupted leaves no half of it.

    Raises:
        EnvironmentNotReady: it cannot be written (the disk is full); those before it are as they were.
    """
    from safetensors.torch import save

    record = {"schema": SCHEMA, "facts": facts, "job": job}
    content = save(dict(tensors), metadata={"bnfold": json.dumps(record, allow_nan=False)})
    path = folder / f"checkpoint-{step:08d}-{digest(content)}.safetensors"
    unfinished = folder / f".{path.name}"
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise EnvironmentNotReady(
            "the checkpoint cannot be written",
            where=str(path),
            found=error.strerror or str(error),
            expected=f"room for {len(content):,} bytes",
            remedy="free some space",
        ) from error
    for old in list_checkpoints(folder)[:-_N_KEPT]:
        old.unlink()
    return path


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read the latest checkpoint of a folder.

    Raises:
        InputRefused: there is none, or it is damaged; the message names the one before it.
    """
    paths = list_checkpoints(folder)
    if not paths:
        raise InputRefused(
            "there is no checkpoint to go on from", where=str(folder), remedy="start the run without --resume"
        )
    path = paths[-1]
    content = _content(path, paths[:-1])
    match = NAME.fullmatch(path.name)
    found = digest(content)
    if match is None or found != match[2]:
        raise _damaged(path, paths[:-1], found=f"SHA-256 {found}... of {len(content):,} bytes")
    tensors, record = decoded(content, path)
    return Checkpoint(path, tensors, record["facts"], record["job"])


def _files(folder: Path) -> Sequence[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _content(path: Path, before: Sequence[Path]) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _damaged(path, before, found=error.strerror or str(error)) from error


def _damaged(path: Path, before: Sequence[Path], *, found: str) -> InputRefused:
    remedy = f"remove it, and --resume goes on from the one before it, {before[-1]}" if before else "start with --force"
    return InputRefused(
        "the checkpoint is damaged", where=str(path), found=found, expected="the digest in its name", remedy=remedy
    )
