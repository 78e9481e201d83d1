"""The samples of `bnfold quantize`: arrays, images in a folder, or the inputs of a data set, labels or not."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.errors import InputRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnfold.records import FileFacts, InputSpec
    from bnfold.sources.types import Source
    from bnfold.sources.user_inputs import UserInputs

__all__ = ["MOST_SAMPLES", "calibration_samples", "check_samples", "network_and_inputs", "sized"]

log = logging.getLogger("bnfold.workflows")
MOST_SAMPLES = 512  # of a folder or a data set; more change no range that matters


def network_and_inputs(network: Any, example: Any, inputs: Any, **options: Any) -> tuple[Source, UserInputs | None]:
    """A network, sized (`sized`), and its samples as the user gave them: a path, or arrays by input name.

    Args:
        network: in memory, or a SOURCE.
        example: what a module is called with; None takes two of the samples, where these are arrays.
        inputs: a path, arrays or tensors by input name, or the one of the one input; None for none.
        options: of `loaded_network`.

    Raises:
        InputRefused: one of them cannot be used.
        EnvironmentNotReady: a package is missing.
    """
    from bnfold.sources.in_memory import kind_of_network
    from bnfold.sources.user_inputs import example_in, user_inputs
    from bnfold.workflows.networks import loaded_network

    kind, in_files = kind_of_network(network), isinstance(inputs, str | os.PathLike)
    if example is None and (kind == "module" or (kind != "source" and not in_files)):
        example = example_in(inputs)
    source = loaded_network(network, example, **options)
    given = user_inputs(inputs, source.inputs, where=source.facts.spec)
    return sized(source, given), given


def sized(source: Source, inputs: UserInputs | None) -> Source:
    """The source with a size for every axis but the batch: that of the arrays, else the first at which it runs.

    Args:
        source: as loaded.
        inputs: as the user named them, None for none; images of a folder are fitted to the network instead.

    Raises:
        InputRefused: the arrays cannot be used, or the source runs at none of the sizes tried.
    """
    from bnfold.sources.types import OnnxSource
    from bnfold.sources.user_inputs import with_inputs
    from bnfold.verification.execution.settled_sizes import settled

    holds_arrays = isinstance(inputs, Mapping) or (inputs is not None and inputs.suffix.lower() == ".npz")
    if not holds_arrays or not isinstance(source, OnnxSource):
        return settled(source)
    return dataclasses.replace(settled(with_inputs(source, inputs)), samples=source.samples)


def calibration_samples(
    inputs: UserInputs | None,
    data: str | None,
    float_file: Path,
    specs: Sequence[InputSpec],
    facts: FileFacts,
    *,
    where: str,
    normalize: str | None = None,
    download: bool = False,
) -> tuple[str, dict[str, np.ndarray]]:
    """What the samples are called, and arrays by input name, samples first.

    Args:
        inputs: arrays by input name, an `.npz` file of such, or a folder of images.
        data: a data set of `bnfold train`, whose training part is read, or `folder:PATH` of images, labelled or not.
        float_file: reads the data set.
        specs: the network's inputs.
        facts: how images become its input.
        where: the source, for messages.
        normalize: the same as the user says it, see `bnfold.sources.preprocessing`.
        download: whether data that is not on this machine may be fetched.

    Raises:
        InputRefused: neither or both are given, or they cannot be used.
        EnvironmentNotReady: a package is missing.
    """
    check_samples(inputs, data)
    if isinstance(inputs, Mapping):
        from bnfold.sources.user_inputs import read_inputs

        return "arrays", read_inputs(inputs, specs)
    if inputs is not None:
        if inputs.is_dir() and facts.preprocessing is not None and len(specs) == 1:
            return f"folder:{inputs.name}", _images(inputs, specs, facts)
        from bnfold.sources.user_inputs import read_inputs

        if inputs.is_dir() and not any(spec.dtype == "uint8" for spec in specs):
            log.warning("%s: pixels over 255 are the input, since nothing says otherwise; --normalize says it", inputs)
        return f"{'folder' if inputs.is_dir() else 'npz'}:{inputs.name}", read_inputs(inputs, specs)
    spec = str(data)
    kind, _, place = spec.partition(":")
    if kind == "folder" and place:
        root = Path(place).expanduser()
        part = root / "train"
        return spec, _images(part if part.is_dir() else root, specs, facts)
    return spec, _of_data_set(spec, float_file, specs, where=where, normalize=normalize, download=download)


def check_samples(inputs: Any, data: str | None) -> None:
    """Refuse neither and both.

    Raises:
        InputRefused: there are no samples, or too many.
    """
    if (inputs is None) == (data is None):
        raise InputRefused(
            "there are no samples to calibrate on" if inputs is None else "--inputs and --data exclude each other",
            expected="--inputs or --data",
            remedy="give one of them: --inputs crops.npz (an array in Python), --inputs FOLDER, --data folder:flowers",
        )


def _images(folder: Path, specs: Sequence[InputSpec], facts: FileFacts) -> dict[str, np.ndarray]:
    """Images of a folder and the folders in it, evenly over the sorted names, as the file's metadata says."""
    from bnfold.sources.image_files import SUFFIXES, require_pillow
    from bnfold.sources.preprocessing import fits, read_image

    require_pillow("a folder of images")
    own = facts.preprocessing
    if own is None or len(specs) != 1 or not fits(own, specs[0].shape):
        raise InputRefused(
            "nothing says how images become the input of this network", where=str(folder),
            expected="preprocessing that fits the one input of an image",
            remedy="say it with --normalize, for example --normalize imagenet, or give an .npz with --inputs",
        )  # fmt: skip
    if own.size is None:
        height, width = specs[0].shape[2:] if own.layout == "nchw" else specs[0].shape[1:3]
        if height is not None and width is not None:
            own = dataclasses.replace(own, size=(height, width))
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise InputRefused(
            "the folder holds no image",
            where=str(folder),
            expected=", ".join(sorted(SUFFIXES)),
            remedy="check the path",
        )
    chosen = [files[k] for k in _evenly(len(files))]
    return {specs[0].name: np.stack([read_image(file, own) for file in chosen])}


def _of_data_set(
    spec: str, float_file: Path, specs: Sequence[InputSpec], *, where: str, normalize: str | None, download: bool
) -> dict[str, np.ndarray]:
    from bnfold.evaluation.contenders import open_contender
    from bnfold.evaluation.samples import open_samples

    contender = open_contender(str(float_file), provider="cpu", threads=None, classes=None, normalize=normalize)
    contender = dataclasses.replace(contender, name=where, path=where)  # messages name what the user gave
    found = open_samples(spec, contender, split="train", download=download)
    wanted, done = set(_evenly(found.n)), 0
    parts: list[list[np.ndarray]] = [[] for _ in specs]
    for arrays, _ in found.batches(256):
        rows = [k for k in range(len(arrays[0])) if done + k in wanted]
        done += len(arrays[0])
        for part, array in zip(parts, arrays, strict=True):
            part.append(array[rows])
    return {
        spec.name: np.concatenate(part).astype(spec.dtype, copy=False) for spec, part in zip(specs, parts, strict=True)
    }


def _evenly(n: int) -> list[int]:
    """At most MOST_SAMPLES numbers below n, spread evenly."""
    return sorted({k * n // MOST_SAMPLES for k in range(MOST_SAMPLES)}) if n > MOST_SAMPLES else list(range(n))
