"""Inputs of the user's own: arrays by input name, in memory or in an `.npz` file, or a folder of images."""

from __future__ import annotations

import dataclasses
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.errors import InputRefused
from bnfold.sources.image_folder import read_images

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnfold.records import InputSpec
    from bnfold.records.input_format import InputFormat
    from bnfold.sources.types import Source

__all__ = ["UserInputs", "example_in", "read_inputs", "user_inputs", "with_inputs"]

UserInputs = Path | Mapping[str, np.ndarray]
"""As the user gave them: a file or folder, or arrays."""

_REMEDY = "store them with numpy.savez, one array per input, by its name, samples first"


def user_inputs(given: Any, inputs: Sequence[InputSpec], *, where: str) -> UserInputs | None:
    """A path, or arrays by input name: one array or tensor is that of the one input.

    Args:
        given: a path, arrays or tensors by input name, or one; None for none.
        inputs: of the network.
        where: the network, for messages.

    Raises:
        InputRefused: it is one array, and the network has several inputs.
    """
    if given is None:
        return None
    if isinstance(given, str | os.PathLike):
        return Path(given)
    if not isinstance(given, Mapping):
        if len(inputs) != 1:
            raise InputRefused(
                "one array of samples, and the network has several inputs", where=where, found=type(given).__name__,
                expected=f"arrays by name: {', '.join(spec.name for spec in inputs)}", remedy="give a dict of arrays",
            )  # fmt: skip
        given = {inputs[0].name: given}
    return {name: _as_array(values) for name, values in given.items()}


def example_in(given: Any) -> Any:
    """Two of the user's samples, as a network is called with them; None where they are images, or there are none.

    Raises:
        InputRefused: the `.npz` file cannot be read.
    """
    if given is None:
        return None
    if isinstance(given, str | os.PathLike):
        path = Path(given)
        if not path.exists():
            raise InputRefused("no such file or folder", where=str(path), remedy="check --inputs")
        if path.suffix.lower() != ".npz":
            return None
        given = _loaded(path)
        if len(given) == 1:  # of the one argument, whatever its name: `read_inputs` says if it is the wrong one
            return _first_two(*given.values())
    if isinstance(given, Mapping):
        return {name: _first_two(values) for name, values in given.items()}
    return _first_two(given)


def _first_two(values: Any) -> Any:
    return values if getattr(values, "ndim", 1) == 0 else values[:2]


def _as_array(values: Any) -> np.ndarray:
    """An array, or a tensor of PyTorch, on whatever device."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def with_inputs(source: Source, given: Any) -> Source:
    """The source with the user's inputs as its samples; as it is where there are none.

    Raises:
        InputRefused, EnvironmentNotReady: as `user_inputs` and `read_inputs`.
    """
    found = user_inputs(given, source.inputs, where=source.facts.spec)
    return (
        source if found is None else dataclasses.replace(source, samples=read_inputs(found, source.inputs, source.form))
    )


def read_inputs(
    path: UserInputs, inputs: Sequence[InputSpec], form: InputFormat | None = None
) -> dict[str, np.ndarray]:
    """Read what a network shall be compared on.

    Args:
        path: an `.npz` file with one array per input, preprocessed as the network reads it, samples first,
            whichever axis of the input counts them (an input that serves all samples has one for each, too); the same
            arrays by name; or a folder of images for a network of one input, see `bnfold.sources.image_folder`.
        inputs: of the network.
        form: of the pixels that one of them takes; None where none does.

    Returns:
        Arrays by input name, samples first, as many in each.

    Raises:
        InputRefused: the path, an array or an image cannot be used.
        EnvironmentNotReady: a folder of images, and Pillow is not installed.
    """
    if isinstance(path, Mapping):
        return _checked(path, inputs, "the inputs")
    if path.is_dir():
        return read_images(path, inputs, form)
    if not path.exists():
        raise InputRefused("no such file or folder", where=str(path), remedy="check --inputs")
    if path.suffix.lower() != ".npz":
        raise InputRefused(
            "inputs must be an .npz file or a folder of images", where=str(path), found=path.suffix or "no suffix",
            expected="an .npz file or a folder of images", remedy=_REMEDY,
        )  # fmt: skip
    return _checked(_loaded(path), inputs, str(path))


def _checked(arrays: Mapping[str, np.ndarray], inputs: Sequence[InputSpec], where: str) -> dict[str, np.ndarray]:
    _refuse_other_names(where, list(arrays), [spec.name for spec in inputs])
    arrays = {spec.name: _of_settled_batch(arrays[spec.name], spec.row) for spec in inputs}
    for spec in inputs:
        _refuse_unfit(where, spec, arrays[spec.name])
    counts = {spec.name: len(arrays[spec.name]) for spec in inputs}
    if len(set(counts.values())) > 1:
        raise InputRefused(
            "the inputs have different numbers of samples", where=where,
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


def _refuse_other_names(where: str, found: Sequence[str], expected: Sequence[str]) -> None:
    if sorted(found) != sorted(expected):
        raise InputRefused(
            "the arrays are not named as the inputs", where=where, found=", ".join(found) or "no array",
            expected=", ".join(expected), remedy=_REMEDY,
        )  # fmt: skip


def _of_settled_batch(array: np.ndarray, row: tuple[int | None, ...]) -> np.ndarray:
    """Samples of an input whose axes were read another way before its sizes were known.

    An axis of length one may have been the batch and be a length of the row now, or the other way round (see
    `bnfold.verification.execution.settled_sizes`): the numbers of a sample are the same, in the same order.
    """
    lengths = [size for size in row if size != 1]
    if None in row or array.ndim == 0 or array.ndim == 1 + len(row):
        return array
    return array.reshape(len(array), *row) if [n for n in array.shape[1:] if n != 1] == lengths else array


def _refuse_unfit(where: str, spec: InputSpec, array: np.ndarray) -> None:
    """Refuse another dtype or shape, no rows, and values that are not finite."""
    row = spec.row
    fits = array.ndim == 1 + len(row) and len(array) > 0 and array.dtype.name == spec.dtype
    if not fits or any(size not in (None, own) for size, own in zip(row, array.shape[1:], strict=True)):
        raise InputRefused(
            "an array does not fit its input",
            where=f"{spec.name} of {where}",
            found=f"{array.dtype.name} {array.shape}",
            expected=f"{spec.dtype} ({', '.join(['samples', *('?' if size is None else str(size) for size in row)])})",
            remedy=f"give them as {spec.dtype}, as .astype('{spec.dtype}') does"
            if array.dtype.name != spec.dtype
            else "give at least one sample, preprocessed as the network reads it, samples first in every array",
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))
        raise InputRefused(
            "an array holds NaN or infinity", where=f"{spec.name} of {where}",
            found=f"{len(bad)} such values, the first in sample {bad[0][0]}",
            remedy="leave these samples out, or correct them",
        )  # fmt: skip
