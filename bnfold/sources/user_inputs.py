"""Inputs of the user's own: an `.npz` file of arrays by input name, or a folder of images."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bnfold.errors import InputRefused
from bnfold.sources.image_folder import read_images

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnfold.records import InputSpec
    from bnfold.records.input_format import InputFormat
    from bnfold.sources.types import Source

__all__ = ["read_inputs", "with_inputs"]

_REMEDY = "store them with numpy.savez, one array per input, by its name, samples first"


def with_inputs(source: Source, path: Path | None) -> Source:
    """The source with the user's inputs as its samples; as it is where there are none.

    Raises:
        InputRefused, EnvironmentNotReady: as `read_inputs`.
    """
    return (
        source
        if path is None
        else dataclasses.replace(source, samples=read_inputs(Path(path), source.inputs, source.form))
    )


def read_inputs(path: Path, inputs: Sequence[InputSpec], form: InputFormat | None = None) -> dict[str, np.ndarray]:
    """Read what a network shall be compared on.

    Args:
        path: an `.npz` file with one array per input, preprocessed as the network reads it, samples first,
            whichever axis of the input counts them (an input that serves all samples has one for each, too); or a
            folder of images for a network of one input, see `bnfold.sources.image_folder`.
        inputs: of the network.
        form: of the pixels that one of them takes; None where none does.

    Returns:
        Arrays by input name, samples first, as many in each.

    Raises:
        InputRefused: the path, an array or an image cannot be used.
        EnvironmentNotReady: a folder of images, and Pillow is not installed.
    """
    if path.is_dir():
        return read_images(path, inputs, form)
    if not path.exists():
        raise InputRefused("no such file or folder", where=str(path), remedy="check --inputs")
    if path.suffix.lower() != ".npz":
        raise InputRefused(
            "inputs must be an .npz file or a folder of images", where=str(path), found=path.suffix or "no suffix",
            expected="an .npz file or a folder of images", remedy=_REMEDY,
        )  # fmt: skip
    arrays = _loaded(path)
    _refuse_other_names(path, list(arrays), [spec.name for spec in inputs])
    for spec in inputs:
        _refuse_unfit(path, spec, arrays[spec.name])
    counts = {spec.name: len(arrays[spec.name]) for spec in inputs}
    if len(set(counts.values())) > 1:
        raise InputRefused(
            "the inputs have different numbers of samples", where=str(path),
            found=", ".join(f"{name} {count}" for name, count in counts.items()),
            remedy="store the same number of samples for every input",
        )  # fmt: skip
    return {spec.name: arrays[spec.name] for spec in inputs}


def _loaded(path: Path) -> dict[str, np.ndarray]:
    """The arrays of the file; pickled objects are not read, since reading them runs code."""
    try:
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise InputRefused("this is not an .npz file", where=str(path), found="one array", remedy=_REMEDY)
            return {name: _array(path, file, name) for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        is_archive = isinstance(error, OSError) or zipfile.is_zipfile(path)
        found = " ".join(str(error).split())[:200] if is_archive else "no archive of arrays"
        raise InputRefused("the .npz file cannot be read", where=str(path), found=found, remedy=_REMEDY) from error


def _array(path: Path, file: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    try:
        return np.asarray(file[name])
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        is_object = "allow_pickle" in str(error)
        raise InputRefused(
            "an array holds Python objects, which are not read" if is_object else "an array cannot be read",
            where=f"{name} of {path}",
            found=None if is_object else " ".join(str(error).split())[:200],
            expected="numbers",
            remedy=_REMEDY,
        ) from error


def _refuse_other_names(path: Path, found: Sequence[str], expected: Sequence[str]) -> None:
    if sorted(found) != sorted(expected):
        raise InputRefused(
            "the arrays are not named as the inputs", where=str(path), found=", ".join(found) or "no array",
            expected=", ".join(expected), remedy=_REMEDY,
        )  # fmt: skip


def _refuse_unfit(path: Path, spec: InputSpec, array: np.ndarray) -> None:
    """Refuse another dtype or shape, no rows, and values that are not finite."""
    row = spec.row
    fits = array.ndim == 1 + len(row) and len(array) > 0 and array.dtype.name == spec.dtype
    if not fits or any(size not in (None, own) for size, own in zip(row, array.shape[1:], strict=True)):
        raise InputRefused(
            "an array does not fit its input",
            where=f"{spec.name} of {path}",
            found=f"{array.dtype.name} {array.shape}",
            expected=f"{spec.dtype} (samples, {', '.join(map(str, row))})",
            remedy="store at least one sample, preprocessed as the network reads it",
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))
        raise InputRefused(
            "an array holds NaN or infinity", where=f"{spec.name} of {path}",
            found=f"{len(bad)} such values, the first in sample {bad[0][0]}",
            remedy="leave these samples out, or correct them",
        )  # fmt: skip
