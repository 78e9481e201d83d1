"""Checkpoints of a run in progress, as `bnfold.training.checkpoints` writes them: read, and as a source."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.sources.extras import require
from bnfold.sources.model_file import ModelFile, load_model_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

__all__ = ["NAME", "SCHEMA", "Unfinished", "decoded", "digest", "is_unfinished", "read_unfinished"]

SCHEMA = "bnfold.checkpoint/1"
NAME = re.compile(r"checkpoint-(\d{8,})-([0-9a-f]{16})\.safetensors")
BEST, MODEL = "best.", "model."
"""What is put before the names of the weights of the best epoch so far, and of those of the latest step."""


@dataclass(frozen=True)
class Unfinished:
    """The network of a checkpoint: its model file and its weights, those of the best epoch where one has ended."""

    model: ModelFile
    state: Mapping[str, torch.Tensor]
    recipe: Mapping[str, Any]


def digest(content: bytes) -> str:
    """What the name of a checkpoint says of its content."""
    return hashlib.sha256(content).hexdigest()[:16]


def decoded(content: bytes, path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors of a checkpoint that is whole, and its record.

    Raises:
        InputRefused: it is of another version of bnfold.
    """
    load = require("safetensors.torch", extra="torch", purpose="a checkpoint").load
    # The header: its length in 8 bytes, then JSON (https://github.com/huggingface/safetensors, "Format").
    n_header = int.from_bytes(content[:8], "little")
    record = json.loads(json.loads(content[8 : 8 + n_header])["__metadata__"]["bnfold"])
    if record["schema"] != SCHEMA:
        raise InputRefused(
            "the checkpoint is of another version of bnfold",
            where=str(path),
            found=f"schema {record['schema']!r}",
            expected=repr(SCHEMA),
            remedy="go on with that version, or start again with --force",
        )
    return load(content), record


def is_unfinished(path: Path) -> bool:
    """Whether a path is that of a checkpoint of a run in progress."""
    return NAME.fullmatch(path.name) is not None and path.is_file()


def read_unfinished(path: Path) -> Unfinished:
    """Read the network of a checkpoint; its model file must be the one that was trained.

    Raises:
        InputRefused: the checkpoint is damaged, or its model file is missing or was changed.
        EnvironmentNotReady: safetensors or PyTorch is not installed.
    """
    content = path.read_bytes()
    match = NAME.fullmatch(path.name)
    if match is None or digest(content) != match[2]:
        raise InputRefused(
            "the checkpoint is damaged",
            where=str(path),
            found=f"SHA-256 {digest(content)}... of {len(content):,} bytes",
            expected="the digest in its name",
            remedy="take the one before it in the same folder, or go on with `bnfold train ... --resume`",
        )
    tensors, record = decoded(content, path)
    job = record["job"]
    model = load_model_file(job.get("source", job["model"]))
    if hashlib.sha256(model.path.read_bytes()).hexdigest() != job["model file"]:
        raise InputRefused(
            "the model file is not the one that the checkpoint was trained with",
            where=str(model.path),
            found="other content than when the training began",
            remedy=f"put the old file back to read {path}",
        )
    prefix = BEST if any(name.startswith(BEST) for name in tensors) else MODEL
    state = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    return Unfinished(model, state, job["recipe"])
