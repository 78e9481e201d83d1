"""Run folders: what `bnfold train` leaves behind and every other command can read.

    model.safetensors    parameters and buffers
    model.py             a copy of the model file
    samples.safetensors  some inputs of the test split, by the name of the network's input
    metrics.jsonl        the metrics of every epoch
    best.safetensors     the weights of the best epoch, where model.safetensors has others; or
    last.safetensors     those of the last epoch, likewise (`keep` in the recipe)
    tensorboard          the metrics for TensorBoard, where they were asked for
    run.json             schema "bnfold.run/1": source, recipe, data split, metrics, versions, SHA-256 of the files

Nothing in it is a pickle.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.sources.extras import require

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    import torch
    from torch import nn

__all__ = ["OPTIONAL_FILES", "RUN_FILES", "SCHEMA", "Run", "read_run", "run_folder", "save_checkpoint"]

SCHEMA = "bnfold.run/1"
WEIGHTS, SAMPLES, MODEL, METRICS, RECORD = (
    "model.safetensors",
    "samples.safetensors",
    "model.py",
    "metrics.jsonl",
    "run.json",
)
BEST, LAST, BOARD = "best.safetensors", "last.safetensors", "tensorboard"
RUN_FILES = (WEIGHTS, SAMPLES, MODEL, METRICS, RECORD)
OPTIONAL_FILES = (BEST, LAST, BOARD)


@dataclass(frozen=True)
class Run:
    """A run folder that has been read and whose files are whole.

    `metadata` is run.json; `model_file` the copy of the model file; `model_name` the name the user gave.
    """

    folder: Path
    metadata: Mapping[str, Any]
    state: Mapping[str, torch.Tensor]
    model_file: Path
    model_name: str
    input_shapes: tuple[tuple[int, ...], ...]

    def samples(self) -> Mapping[str, np.ndarray]:
        """Real inputs from the test split by input name, first axis the sample, the others those of `input_shapes`.

        Raises:
            InputRefused: the file is missing or damaged.
        """
        read = require("safetensors.numpy", extra="torch", purpose="a run folder").load
        arrays = read(_whole(self.folder, SAMPLES, self.metadata))
        rows = [shape[1:] for shape in self.input_shapes]
        for name, array in arrays.items():
            if array.shape[1:] not in rows or not len(array):
                raise _damaged(
                    "the samples do not fit the network",
                    self.folder / SAMPLES,
                    found=f"{name} {array.shape}",
                    expected=" or ".join(f"(n, {', '.join(map(str, row))})" for row in rows),
                )
        return MappingProxyType(arrays)


def save_checkpoint(
    folder: Path,
    module: nn.Module,
    metadata: Mapping[str, Any],
    *,
    model_file: bytes,
    samples: Mapping[str, np.ndarray],
    spare: tuple[str, Mapping[str, torch.Tensor]] | None = None,
) -> Mapping[str, Any]:
    """Write model.safetensors, samples.safetensors, model.py and, last, run.json into an existing folder.

    Args:
        folder: metrics.jsonl is already there.
        module: its state dict is stored; tensors that share memory are stored once for each name.
        metadata: entries of run.json; `schema` and `files` (SHA-256 by file name) are added.
        model_file: the bytes of the model file.
        samples: inputs by name, first axis the sample.
        spare: other weights of the same network, and the name of their file.

    Returns:
        run.json as written.
    """
    import numpy as np
    from safetensors.numpy import save as save_arrays
    from safetensors.torch import save as save_tensors

    def stored(state: Mapping[str, torch.Tensor]) -> bytes:
        return save_tensors({name: tensor.detach().cpu().clone().contiguous() for name, tensor in state.items()})

    arrays = {name: np.ascontiguousarray(array) for name, array in samples.items()}
    contents = {WEIGHTS: stored(module.state_dict()), SAMPLES: save_arrays(arrays), MODEL: model_file}
    if spare is not None:
        contents[spare[0]] = stored(spare[1])
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    record = {"schema": SCHEMA, **metadata, "files": digests}
    lines = (f"  {json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in record.items())
    (folder / RECORD).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return record


def run_folder(path: Path) -> Path | None:
    """The run folder that a path means: the folder itself, or that of a file in it; else None."""
    if path.is_dir():
        return path
    if path.name in (RECORD, WEIGHTS, BEST, LAST) and (path.parent / RECORD).is_file():
        return path.parent
    return None


def read_run(path: Path) -> Run:
    """Read a run folder (or the run.json or weights in one) and check that its files are whole.

    Raises:
        InputRefused: no run folder, or a file of it is missing, damaged or changed.
        EnvironmentNotReady: safetensors or PyTorch is not installed.
    """
    folder = run_folder(path)
    if folder is None or not (folder / RECORD).is_file():
        raise InputRefused(
            f"not a run folder: it has no {RECORD}",
            where=str(path),
            expected=f"a folder with {RECORD}, as `bnfold train` writes it",
            remedy="train one with `bnfold train bnnet`",
        )
    metadata = _read_record(folder)
    require("torch", extra="torch", purpose="a run folder")
    safetensors = require("safetensors", extra="torch", purpose="a run folder")
    read = require("safetensors.torch", extra="torch", purpose="a run folder").load
    _whole(folder, MODEL, metadata)
    weights = path.name if path.name in (BEST, LAST) else WEIGHTS
    content = _whole(folder, weights, metadata)
    try:
        state = read(content)
    except safetensors.SafetensorError as error:
        raise _damaged("the weights cannot be read", folder / weights, found=str(error)) from error
    model = metadata["model"]
    return Run(
        folder=folder,
        metadata=MappingProxyType(metadata),
        state=MappingProxyType(state),
        model_file=folder / MODEL,
        model_name=model["name"],
        input_shapes=tuple(map(tuple, model.get("input_shapes") or [model["input_shape"]])),
    )


def _read_record(folder: Path) -> dict[str, Any]:
    """run.json, with the entries that reading the rest relies on."""
    path = folder / RECORD
    try:
        metadata = json.loads(_content(path))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise _damaged("the file is not JSON", path, found=str(error)) from error
    if not isinstance(metadata, dict) or metadata.get("schema") != SCHEMA:
        found = repr(metadata.get("schema")) if isinstance(metadata, dict) else type(metadata).__name__
        raise _damaged("not the record of a run", path, found=f"schema {found}", expected=f'schema "{SCHEMA}"')
    model, files = metadata.get("model"), metadata.get("files")
    valid = (
        isinstance(model, dict)
        and isinstance(files, dict)
        and isinstance(model.get("name"), str)
        and isinstance(model.get("input_shape"), list)
        and all(isinstance(size, int) for size in model["input_shape"])
    )
    if not valid:
        raise _damaged("entries are missing", path, expected='"model" with name and input_shape, and "files"')
    return metadata


def _whole(folder: Path, name: str, metadata: Mapping[str, Any]) -> bytes:
    """The bytes of a file of the run, which must be those that were written."""
    path = folder / name
    if not path.is_file():
        raise _damaged("a file of the run is missing", path)
    content = _content(path)
    found, expected = hashlib.sha256(content).hexdigest(), metadata["files"].get(name)
    if found != expected:
        raise _damaged(
            "a file of the run is damaged or was changed",
            path,
            found=f"SHA-256 {found[:12]}... of {len(content)} bytes",
            expected=f"{str(expected)[:12]}... as in {RECORD}",
        )
    return content


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _damaged("a file of the run cannot be read", path, found=error.strerror or str(error)) from error


def _damaged(what: str, path: Path, *, found: str | None = None, expected: str | None = None) -> InputRefused:
    return InputRefused(
        what,
        where=str(path),
        found=found,
        expected=expected,
        remedy="train it again with `bnfold train MODEL --force`, or restore the folder from a copy",
    )
