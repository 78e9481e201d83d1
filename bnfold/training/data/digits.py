"""The UCI handwritten digits that come with scikit-learn: 1,797 images of 8x8 pixels from 0 to 16, 10 classes."""

from __future__ import annotations

import hashlib
import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from bnfold.errors import InputRefused
from bnfold.sources.extras import require
from bnfold.training.data.batches import Batch, DataSet, MemoryData, Split
from bnfold.training.data.splits import stratified_split

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import torch

    from bnfold.training.recipe import Recipe

__all__ = ["Digits", "digits", "load_digits"]


class Digits(NamedTuple):
    """The images (1797, 8, 8) in 0..1, float64, their classes, and the indices of each split."""

    images: np.ndarray
    targets: np.ndarray
    indices: Mapping[Split, np.ndarray]
    facts: Mapping[str, Any]


def load_digits(recipe: Recipe) -> Digits:
    """Read the digits and split them by the recipe's seed.

    Raises:
        EnvironmentNotReady: scikit-learn is not installed.
    """
    bunch = require("sklearn.datasets", extra="train", purpose=f"the data set {recipe.data}").load_digits()
    indices = stratified_split(bunch.target, recipe.split_seed)
    facts = {
        "origin": "UCI Optical Recognition of Handwritten Digits, as sklearn.datasets.load_digits",
        "sha256": hashlib.sha256(bunch.images.tobytes() + bunch.target.tobytes()).hexdigest(),
        "n_classes": 10,
        "split": {
            "scheme": "stratified",
            "seed": recipe.split_seed,
            "sizes": {split: len(index) for split, index in indices.items()},
            "indices": {split: index.tolist() for split, index in indices.items()},
        },
    }
    return Digits(bunch.images / 16.0, bunch.target, indices, MappingProxyType(facts))


def digits(recipe: Recipe, input_shapes: tuple[tuple[int, ...], ...]) -> DataSet:
    """The digits as images or as rows of pixels, resized and standardised as the recipe says."""
    import torch
    from torch.nn import functional

    source = load_digits(recipe)
    images = torch.from_numpy(source.images).to(torch.float32)[:, None]
    targets = torch.from_numpy(source.targets).to(torch.int64)
    if recipe.image_size is not None:
        images = functional.interpolate(images, size=recipe.image_size, mode="bilinear", align_corners=False)
    images = _shaped(images, input_shapes[0], recipe)
    train = images[torch.from_numpy(source.indices["train"])].double()
    mean, std = (train.mean().item(), train.std(correction=0).item()) if recipe.standardise else (0.0, 1.0)
    images = (images - mean) / std
    facts = {
        "name": "digits",
        **source.facts,
        "image_size": list(recipe.image_size or source.images.shape[1:]),
        "resize": None if recipe.image_size is None else "bilinear",
        "normalisation": {"formula": "(pixel / 16 - mean) / std", "mean": mean, "std": std, "over": "train"},
    }
    parts = {split: torch.from_numpy(index) for split, index in source.indices.items()}
    return MemoryData(
        splits=MappingProxyType({split: Batch((images[part],), targets[part]) for split, part in parts.items()}),
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
