"""Data sets: images and targets in three splits, normalised and shaped as the network takes them."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from bnfold.errors import InputRefused
from bnfold.sources.extras import require
from bnfold.sources.model_file import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy as np
    import torch

    from bnfold.training.recipe import Recipe

__all__ = ["DATA_SETS", "SPLITS", "Batch", "DataSet", "MemoryData", "Split", "make_data", "stratified_split"]

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
# Validation and test parts of a data set that comes without a split of its own; the rest is for training.
VAL_FRACTION, TEST_FRACTION = 0.1, 0.2


class Batch(NamedTuple):
    """Inputs in the order of the network's `forward`, first axis the sample, and what the task wants of them."""

    inputs: tuple[torch.Tensor, ...]
    targets: torch.Tensor


class DataSet(Protocol):
    """What the loop and the run's record need of a data set."""

    @property
    def n_classes(self) -> int:
        """The number of classes of the targets."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """Name, sizes, normalisation and split, for run.json."""

    def batches(self, split: Split, batch_size: int, *, shuffle: torch.Generator | None = None) -> Iterator[Batch]:
        """One pass over a split: every sample once, or, shuffled for training, full batches only."""

    def n_batches(self, split: Split, batch_size: int) -> int:
        """The number of shuffled batches of one pass."""


@dataclass(frozen=True)
class MemoryData:
    """A data set that is small enough to lie in memory: (inputs, targets) by split."""

    splits: Mapping[Split, tuple[torch.Tensor, torch.Tensor]]
    n_classes: int
    facts: Mapping[str, Any]

    def n_batches(self, split: Split, batch_size: int) -> int:
        """Full batches in a split, at least one."""
        return max(1, len(self.splits[split][1]) // batch_size)

    def batches(self, split: Split, batch_size: int, *, shuffle: torch.Generator | None = None) -> Iterator[Batch]:
        """One pass over a split.

        With `shuffle` the order is drawn from it and a last batch shorter than the others is left out: a BatchNorm in
        training mode has no variance over a single sample, and weighs the samples of a short batch too heavily. A
        split smaller than one batch is one batch.
        """
        import torch

        inputs, targets = self.splits[split]
        n = len(targets)
        order = torch.arange(n) if shuffle is None else torch.randperm(n, generator=shuffle)
        stop = n if shuffle is None else min(n, self.n_batches(split, batch_size) * batch_size)
        for start in range(0, stop, batch_size):
            index = order[start : start + batch_size]
            yield Batch((inputs[index],), targets[index])


def stratified_split(targets: np.ndarray, seed: int) -> Mapping[Split, np.ndarray]:
    """Divide samples into train, val and test, each class in the same proportions.

    Returns:
        Ascending indices by split; every sample is in exactly one.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    parts: dict[Split, list[np.ndarray]] = {split: [] for split in SPLITS}
    for label in np.unique(targets):
        members = rng.permutation(np.flatnonzero(targets == label))
        n_test = round(len(members) * TEST_FRACTION)
        n_val = round(len(members) * VAL_FRACTION)
        parts["test"].append(members[:n_test])
        parts["val"].append(members[n_test : n_test + n_val])
        parts["train"].append(members[n_test + n_val :])
    return {split: np.sort(np.concatenate(part)) for split, part in parts.items()}


def _digits(recipe: Recipe, input_shape: tuple[int, ...]) -> DataSet:
    """The UCI handwritten digits that come with scikit-learn: 1,797 images of 8x8 pixels from 0 to 16, 10 classes."""
    import torch
    from torch.nn import functional

    bunch = require("sklearn.datasets", extra="train", purpose="the data set digits").load_digits()
    images = torch.from_numpy(bunch.images / 16.0).to(torch.float32)[:, None]
    targets = torch.from_numpy(bunch.target).to(torch.int64)
    if recipe.image_size is not None:
        images = functional.interpolate(images, size=recipe.image_size, mode="bilinear", align_corners=False)
    images = _shaped(images, input_shape, recipe)
    indices = stratified_split(bunch.target, recipe.split_seed)
    train = images[torch.from_numpy(indices["train"])].double()
    mean, std = (train.mean().item(), train.std(correction=0).item()) if recipe.standardise else (0.0, 1.0)
    images = (images - mean) / std
    facts = {
        "name": "digits",
        "origin": "UCI Optical Recognition of Handwritten Digits, as sklearn.datasets.load_digits",
        "sha256": hashlib.sha256(bunch.images.tobytes() + bunch.target.tobytes()).hexdigest(),
        "n_classes": 10,
        "image_size": list(recipe.image_size or bunch.images.shape[1:]),
        "resize": None if recipe.image_size is None else "bilinear",
        "normalisation": {"formula": "(pixel / 16 - mean) / std", "mean": mean, "std": std, "over": "train"},
        "split": {
            "scheme": "stratified",
            "seed": recipe.split_seed,
            "sizes": {split: len(index) for split, index in indices.items()},
            "indices": {split: index.tolist() for split, index in indices.items()},
        },
    }
    parts = {split: torch.from_numpy(index) for split, index in indices.items()}
    return MemoryData(
        splits=MappingProxyType({split: (images[part], targets[part]) for split, part in parts.items()}),
        n_classes=10,
        facts=MappingProxyType(facts),
    )


def _shaped(images: torch.Tensor, input_shape: tuple[int, ...], recipe: Recipe) -> torch.Tensor:
    """Reshape (N, channels, height, width) to (N, *input_shape[1:]): the same image, or as many pixels in a row."""
    n_pixels = math.prod(images.shape[1:])
    same_image = len(input_shape) != 4 or tuple(images.shape[1:]) == input_shape[1:]
    if n_pixels != math.prod(input_shape[1:]) or not same_image:
        raise InputRefused(
            f"the images of {recipe.data} do not fit the network's INPUT_SHAPE",
            found=f"{tuple(images.shape[1:])}, {n_pixels} pixels",
            expected=f"{input_shape[1:]}, {math.prod(input_shape[1:])} pixels",
            remedy="set image_size in the recipe, or --set image_size=[HEIGHT,WIDTH]",
        )
    return images.reshape(-1, *input_shape[1:])


DATA_SETS: dict[str, Callable[[Recipe, tuple[int, ...]], DataSet]] = {"digits": _digits}


def make_data(recipe: Recipe, input_shape: tuple[int, ...]) -> DataSet:
    """The data set a recipe names, in the shape the network takes.

    Args:
        recipe: names the data set and the image size.
        input_shape: of one array, with a leading 1 as batch.

    Raises:
        InputRefused: no such data set, or its images do not fit.
        EnvironmentNotReady: the package that brings the data is missing.
    """
    if recipe.data not in DATA_SETS:
        raise InputRefused(
            f"there is no data set {recipe.data!r}",
            remedy=nearest(recipe.data, list(DATA_SETS), listing=f"known data sets: {', '.join(DATA_SETS)}"),
        )
    return DATA_SETS[recipe.data](recipe, input_shape)
