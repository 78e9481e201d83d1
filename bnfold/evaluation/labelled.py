"""Labelled samples of any origin: what they are, images in a folder for each class, and arrays."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING

import numpy as np

from bnfold.errors import InputRefused
from bnfold.evaluation.mixed_sizes import stacked
from bnfold.records.file_facts import CHANNELS
from bnfold.sources.image_files import SUFFIXES, require_pillow
from bnfold.sources.preprocessing import normalised, read_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bnfold.evaluation.contenders import Contender
    from bnfold.records.file_facts import Preprocessing
    from bnfold.training.data import DataSet
    from bnfold.training.recipe import Recipe

    Batches = Iterator[tuple[tuple[np.ndarray, ...], np.ndarray]]

__all__ = ["Samples", "labelled_arrays", "labelled_folder", "preprocessing_of"]

_REMEDY_IMAGES = "say it with --normalize, for example --normalize imagenet or divide=255,mean=0.5,std=0.5"


@dataclasses.dataclass(frozen=True)
class Samples:
    """Labelled samples.

    Attributes:
        spec: the data as the user or the file names it.
        split: which part of it, "all" where it has none.
        n: samples.
        sha256: of what they were read from.
        task: what the targets are for.
        classes: names in the order of the targets' numbers; empty where the data does not name them.
        batches: pairs of inputs, in the order of the network's, and targets, in order, so many at a time.
        names: of each sample, where it has one; else empty.
        recipe: with which `bnfold train` would read it, and
        data: what it reads; None for images in folders and for arrays.
    """

    spec: str
    split: str
    n: int
    sha256: str
    task: str
    classes: tuple[str, ...]
    batches: Callable[[int], Batches]
    names: tuple[str, ...] = ()
    recipe: Recipe | None = None
    data: DataSet | None = None


def preprocessing_of(contender: Contender, spec: str) -> Preprocessing:
    """How images become the input of a contender.

    Raises:
        InputRefused: nothing says so.
    """
    own = contender.facts.preprocessing
    if own is None:
        raise InputRefused(
            "nothing says how images become the input of this network", where=contender.path,
            found="no bnfold.preprocessing in its metadata", expected=f"divisor, mean and deviation, for {spec}",
            remedy=_REMEDY_IMAGES,
        )  # fmt: skip
    return own


def labelled_folder(spec: str, root: Path, contender: Contender, split: str) -> Samples:
    """Images in a folder for each class: those of PATH/test where there is one, else all."""
    require_pillow(f"the data set {spec}")
    if not root.is_dir():
        raise InputRefused("no such folder", where=str(root), remedy="check the path behind folder:")
    part = root / split
    base, name = (part, split) if part.is_dir() else (root, "all")
    folders = sorted(path for path in base.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise InputRefused(
            "the folder has no labels", where=str(base), found="no folder in it",
            expected="a folder of images for each class, named after it",
            remedy="sort the images into folders; bnfold predict takes images without labels",
        )  # fmt: skip
    files = [
        (file, number)
        for number, folder in enumerate(folders)
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in SUFFIXES and file.is_file()
    ]
    if not files:
        raise InputRefused(
            "the folders hold no images", where=str(base), found=f"no file of {', '.join(sorted(SUFFIXES))}",
            remedy="check the path behind folder:",
        )  # fmt: skip
    preprocessing = preprocessing_of(contender, spec)

    def batches(size: int) -> Batches:
        for start in range(0, len(files), size):
            chosen = files[start : start + size]
            pixels = stacked([read_image(file, preprocessing) for file, _ in chosen])
            yield (pixels,), np.array([number for _, number in chosen], np.int64)

    digest = hashlib.sha256()
    for file, _ in files:
        digest.update(f"{file.relative_to(base)}\0".encode(errors="surrogateescape"))
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return Samples(
        spec=spec,
        split=name,
        n=len(files),
        sha256=digest.hexdigest(),
        task="classification",
        classes=tuple(folder.name for folder in folders),
        batches=batches,
        names=tuple(str(file.relative_to(base)) for file, _ in files),
    )


def labelled_arrays(spec: str, path: Path, contender: Contender, split: str, task: str) -> Samples:
    """Arrays `x_test` and `y_test`, else `x` and `y`; images of 8 bits are normalised as the file says."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            names = set(stored.files)
            chosen = split if {f"x_{split}", f"y_{split}"} <= names else "all"
            keys = (f"x_{split}", f"y_{split}") if chosen == split else ("x", "y")
            missing = [key for key in keys if key not in names]
            x, y = (None, None) if missing else (stored[keys[0]], stored[keys[1]])
    except (OSError, ValueError) as error:
        raise InputRefused(
            "the arrays cannot be read", where=str(path), found=str(error)[:200], remedy="write them with numpy.savez"
        ) from error
    if x is None or y is None:
        raise InputRefused(
            "the arrays have no labels" if "x" in names else "the arrays have other names", where=str(path),
            found=", ".join(sorted(names)) or "none", expected=f"x_{split} and y_{split}, or x and y",
            remedy="store them by these names",
        )  # fmt: skip
    if len(x) != len(y) or not len(x):
        raise InputRefused(
            "x and y must hold the same number of samples", where=str(path), found=f"{len(x)} and {len(y)}",
            expected="as many of both, at least one", remedy="store them again",
        )  # fmt: skip
    if task == "classification" and (y.ndim != 1 or y.dtype.kind not in "iu"):
        raise InputRefused(
            "the labels are not class numbers", where=str(path), found=f"{y.dtype} {y.shape}",
            expected=f"whole numbers ({len(x)},)", remedy="number the classes from 0, in the order of the output",
        )  # fmt: skip
    preprocessing = None
    if x.dtype == np.uint8:
        preprocessing = preprocessing_of(contender, spec)
        x = _pixels_last(x, preprocessing, str(path))

    def batches(size: int) -> Batches:
        for start in range(0, len(x), size):
            part = x[start : start + size]
            yield (part if preprocessing is None else normalised(part, preprocessing),), y[start : start + size]

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Samples(spec, chosen, len(x), digest, task, (), batches)


def _pixels_last(x: np.ndarray, preprocessing: Preprocessing, where: str) -> np.ndarray:
    """Images of 8 bits as (N, H, W, C)."""
    channels = CHANNELS[preprocessing.channels]
    if x.ndim == 3 and channels == 1:
        return x[..., np.newaxis]
    if x.ndim == 4 and x.shape[3] == channels:
        return x
    if x.ndim == 4 and x.shape[1] == channels:
        return np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    raise InputRefused(
        "the images have other channels than the network", where=where, found=str(x.shape),
        expected=f"(N, H, W, {channels}) or (N, {channels}, H, W)", remedy="convert them, or store float inputs",
    )  # fmt: skip
