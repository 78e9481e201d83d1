"""Canvases on which several digits lie apart from each other, with a mask of classes or with boxes.

The digits are split first: those on a test canvas are on no training canvas.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from bnfold.errors import InputRefused
from bnfold.training.data.batches import SPLITS, Batch, DataSet, MemoryData, Split
from bnfold.training.data.digits import load_digits

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from bnfold.training.recipe import Recipe

__all__ = ["MAX_OBJECTS", "canvases"]

N_CANVASES: dict[Split, int] = {"train": 1200, "val": 150, "test": 300}
MAX_OBJECTS = 3
SIZES = (8, 9, 10, 11, 12)  # pixels that a digit is enlarged to
NOISE = 0.05  # standard deviation; pixels of the digits lie in 0..1
INK = 0.25  # a pixel above this belongs to the digit
N_TRIES = 50  # places tried for a digit before the canvas is left with fewer


class _Canvas(NamedTuple):
    """The image (height, width), the mask of classes (0 the background, 1 + digit), the boxes (MAX_OBJECTS, 5)."""

    image: np.ndarray
    mask: np.ndarray
    boxes: np.ndarray


def canvases(recipe: Recipe, input_shapes: tuple[tuple[int, ...], ...]) -> DataSet:
    """Canvases (1, height, width) of one to three digits, 8 to 12 pixels large, on noise.

    Targets are masks (N, height, width) for a segmentation, with class 0 the background and 1 + d the digit d; for a
    detection boxes (N, 3, 5), each row (digit, left, top, right, bottom) in pixels, -1 where there is none.

    Raises:
        InputRefused: the network's input is no canvas.
    """
    import numpy as np
    import torch

    shape = input_shapes[0]
    if len(shape) != 4 or shape[1] != 1 or min(shape[2:]) < 2 * SIZES[-1]:
        raise InputRefused(
            "the canvases do not fit the network's INPUT_SHAPE",
            found=str(shape),
            expected=f"(1, 1, height, width) of at least {2 * SIZES[-1]} pixels",
            remedy="mend INPUT_SHAPE, for example (1, 1, 32, 32)",
        )
    source = load_digits(recipe)
    by_size = _enlarged(source.images)
    splits: dict[Split, Batch] = {}
    for split in SPLITS:
        rng = np.random.default_rng((recipe.split_seed, SPLITS.index(split)))
        drawn = [
            _canvas(rng, by_size, source.targets, source.indices[split], (shape[2], shape[3]))
            for _ in range(N_CANVASES[split])
        ]
        images = np.stack([canvas.image for canvas in drawn])[:, None]
        wanted = [canvas.mask if recipe.task == "segmentation" else canvas.boxes for canvas in drawn]
        splits[split] = Batch((torch.from_numpy(images),), torch.from_numpy(np.stack(wanted)))
    facts = {
        "name": "canvases",
        **source.facts,
        "n_classes": 11 if recipe.task == "segmentation" else 10,
        "normalisation": {"formula": "pixel / 16 + noise", "noise": NOISE},
        "split": {
            "scheme": "canvases of the digits of each split",
            "seed": recipe.split_seed,
            "sizes": dict(N_CANVASES),
            "digits": source.facts["split"],
        },
    }
    return MemoryData(MappingProxyType(splits), facts["n_classes"], MappingProxyType(facts))


def _enlarged(images: np.ndarray) -> dict[int, np.ndarray]:
    """The digits in every size, bilinear: size -> (n, size, size)."""
    import torch
    from torch.nn import functional

    small = torch.from_numpy(images)[:, None]
    return {
        size: functional.interpolate(small, size=size, mode="bilinear", align_corners=False)[:, 0].numpy()
        for size in SIZES
    }


def _canvas(
    rng: np.random.Generator,
    by_size: dict[int, np.ndarray],
    targets: np.ndarray,
    members: np.ndarray,
    shape: tuple[int, int],
) -> _Canvas:
    """Lay one to three digits of a split on a canvas, each where no other lies."""
    import numpy as np

    image = rng.normal(0, NOISE, shape)
    mask = np.zeros(shape, dtype=np.int64)
    boxes = np.full((MAX_OBJECTS, 5), -1.0)
    taken = np.zeros(shape, dtype=bool)
    for index in range(rng.integers(1, MAX_OBJECTS + 1)):
        member = members[rng.integers(len(members))]
        size = SIZES[rng.integers(len(SIZES))]
        place = _free_place(rng, taken, size)
        if place is None:
            break
        area = (slice(place[0], place[0] + size), slice(place[1], place[1] + size))
        digit = by_size[size][member]
        ink = digit > INK
        image[area] += digit
        mask[area][ink] = 1 + targets[member]
        rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
        top, left = place[0] + rows[0], place[1] + columns[0]
        bottom, right = place[0] + rows[-1] + 1, place[1] + columns[-1] + 1
        boxes[index] = (targets[member], left, top, right, bottom)
        taken[area] = True
    return _Canvas(image.astype(np.float32), mask, boxes.astype(np.float32))


def _free_place(rng: np.random.Generator, taken: np.ndarray, size: int) -> Sequence[int] | None:
    """The top left corner of a square that nothing lies on; None where the tries are used up."""
    for _ in range(N_TRIES):
        y, x = rng.integers(0, taken.shape[0] - size + 1), rng.integers(0, taken.shape[1] - size + 1)
        if not taken[y : y + size, x : x + size].any():
            return (int(y), int(x))
    return None
