"""Images that are decoded when a batch wants them: folders of files and the data sets of hubs."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.runtime.machine import available_threads
from bnfold.sources.image_files import MODES, fitted_pixels
from bnfold.training.data.batches import Batch, IndexedData, Split
from bnfold.training.data.splits import refuse_empty, refuse_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    import torch

    from bnfold.training.recipe import Recipe

__all__ = ["ImageSplit", "Images", "image_data"]

N_MEASURED = 1000  # training images that mean and deviation are taken from, evenly over their order


@dataclass(frozen=True)
class ImageSplit:
    """The images of a split: `read(i)` gives the i-th as a PIL.Image.Image, `targets` its class."""

    read: Callable[[int], Any]
    targets: Sequence[int]


@dataclass(frozen=True)
class Images(IndexedData):
    """Images as (N, channels, height, width), normalised per channel; a batch is decoded by several threads."""

    splits: Mapping[Split, ImageSplit]
    shape: tuple[int, int, int]
    n_classes: int
    facts: Mapping[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def size(self, split: Split) -> int:
        """The number of images of a split."""
        return len(self.splits[split].targets)

    def take(self, split: Split, index: torch.Tensor) -> Batch:
        """The images of these numbers.

        Raises:
            InputRefused: one of them cannot be decoded.
        """
        import numpy as np
        import torch

        numbers = index.tolist()
        source = self.splits[split]
        pixels = np.stack(_decoded(source, numbers, self.shape))
        channel = (1, -1, 1, 1)
        normal = (pixels - np.reshape(self.mean, channel)) / np.reshape(self.std, channel)
        targets = torch.tensor([source.targets[number] for number in numbers], dtype=torch.int64)
        return Batch((torch.from_numpy(normal.astype(np.float32)),), targets)


def image_data(
    splits: Mapping[Split, ImageSplit],
    recipe: Recipe,
    input_shapes: tuple[tuple[int, ...], ...],
    *,
    n_classes: int,
    facts: Mapping[str, Any],
) -> Images:
    """Images in the network's channels, height and width, normalised over training images.

    The shorter side is resized to the input's, the rest cropped at the centre. Pixels are divided by 255 and, if the
    recipe says `standardise`, shifted and scaled to mean 0 and deviation 1 per channel over at most 1000 training
    images, evenly taken.

    Raises:
        InputRefused: the network's input is no image, a split is empty, a label is out of range, or an image cannot be
            decoded.
    """
    import numpy as np

    refuse_empty({split: len(part.targets) for split, part in splits.items()}, recipe.data)
    for split, part in splits.items():
        refuse_labels(np.asarray(part.targets, dtype=np.int64), n_classes, where=f"{recipe.data}, split {split}")
    shape = _image_shape(recipe, input_shapes)
    mean, std = (0.0,) * shape[0], (1.0,) * shape[0]
    if recipe.standardise:
        mean, std = _statistics(splits["train"], shape)
    own = {
        "image_size": list(shape[1:]),
        "resize": "bilinear, the shorter side; cropped at the centre",
        "n_classes": n_classes,
        "normalisation": {"formula": "(pixel / 255 - mean) / std", "mean": mean, "std": std, "over": "train"},
    }
    return Images(MappingProxyType(dict(splits)), shape, n_classes, MappingProxyType({**facts, **own}), mean, std)


def _image_shape(recipe: Recipe, input_shapes: tuple[tuple[int, ...], ...]) -> tuple[int, int, int]:
    shape = input_shapes[0]
    if len(input_shapes) != 1 or len(shape) != 4 or shape[1] not in MODES:
        raise InputRefused(
            f"the images of {recipe.data} do not fit the network's INPUT_SHAPE",
            found=" and ".join(map(str, input_shapes)),
            expected="one image of 1, 3 or 4 channels, for example (1, 3, 64, 64)",
            remedy="mend INPUT_SHAPE, or take a network for images",
        )
    return (shape[1], shape[2], shape[3])


def _decoded(source: ImageSplit, numbers: Sequence[int], shape: tuple[int, int, int]) -> list[np.ndarray]:
    """Images (channels, height, width) in 0..1, in the order of their numbers."""
    fit = functools.partial(_fitted, source, shape)
    with ThreadPoolExecutor(available_threads()) as pool:
        return list(pool.map(fit, numbers))


def _fitted(source: ImageSplit, shape: tuple[int, int, int], number: int) -> np.ndarray:
    image = source.read(number).convert(MODES[shape[0]])
    return (fitted_pixels(image, shape[1:]) / 255.0).transpose(2, 0, 1)


def _statistics(train: ImageSplit, shape: tuple[int, int, int]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel; a channel that is one value everywhere has deviation 1."""
    import numpy as np

    n = len(train.targets)
    numbers = sorted({i * n // N_MEASURED for i in range(N_MEASURED)} if n > N_MEASURED else range(n))
    sums, squares = np.zeros(shape[0]), np.zeros(shape[0])
    for start in range(0, len(numbers), 64):
        pixels = np.stack(_decoded(train, numbers[start : start + 64], shape))
        sums += pixels.mean((2, 3)).sum(0)
        squares += np.square(pixels).mean((2, 3)).sum(0)
    mean = sums / len(numbers)
    deviation = np.sqrt(np.maximum(squares / len(numbers) - mean**2, 0))
    return tuple(mean.tolist()), tuple(np.where(deviation > 0, deviation, 1.0).tolist())
