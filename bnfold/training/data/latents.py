"""Images to imitate: the network takes a latent vector, and what it makes of it is compared with real images."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import TYPE_CHECKING

from bnfold.training.data.batches import SPLITS, Batch, DataSet, MemoryData
from bnfold.training.data.digits import load_digits

if TYPE_CHECKING:
    from bnfold.training.recipe import Recipe

__all__ = ["digits_with_latents"]


def digits_with_latents(recipe: Recipe, input_shapes: tuple[tuple[int, ...], ...]) -> DataSet:
    """The digits as targets (N, 1, height, width) in -1..1, and normal latents of the network's input shape.

    The latents are drawn once, by the split seed, so that metrics of one network are the same each time; a task may
    draw others for a training step.
    """
    import torch
    from torch.nn import functional

    source = load_digits(dataclasses.replace(recipe, data="digits"))
    images = torch.from_numpy(source.images).to(torch.float32)[:, None] * 2 - 1
    if recipe.image_size is not None:
        images = functional.interpolate(images, size=recipe.image_size, mode="bilinear", align_corners=False)
    splits = {}
    for split in SPLITS:
        index = torch.from_numpy(source.indices[split])
        generator = torch.Generator().manual_seed(1000 * recipe.split_seed + SPLITS.index(split))
        latents = torch.randn((len(index), *input_shapes[0][1:]), generator=generator)
        splits[split] = Batch((latents,), images[index])
    facts = {"name": "digits", **source.facts, "normalisation": {"formula": "pixel / 8 - 1"}, "latents": "normal"}
    return MemoryData(MappingProxyType(splits), 0, MappingProxyType(facts))
