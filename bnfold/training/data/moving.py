"""Short videos of a digit that moves: what is learnt is the direction, which no single frame tells.

The digits are split first: those of a test video are in no training video.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from bnfold.errors import InputRefused
from bnfold.training.data.batches import SPLITS, Batch, DataSet, MemoryData, Split
from bnfold.training.data.digits import load_digits

if TYPE_CHECKING:
    import numpy as np

    from bnfold.training.recipe import Recipe

__all__ = ["moving_digits"]

N_VIDEOS: dict[Split, int] = {"train": 1000, "val": 200, "test": 400}
# The class of a video: pixels a frame down and to the right.
DIRECTIONS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
NOISE = 0.1  # standard deviation; pixels of the digits lie in 0..1


def moving_digits(recipe: Recipe, input_shapes: tuple[tuple[int, ...], ...]) -> DataSet:
    """Videos (1, frames, height, width) of one digit of 8x8 pixels, moving by a pixel a frame, on noise.

    Raises:
        InputRefused: the network's input is no video that a digit can cross.
    """
    import torch

    source = load_digits(recipe)
    shape = input_shapes[0]
    fits = len(shape) == 5 and shape[1] == 1 and min(shape[3:]) >= 8 + shape[2] - 1
    if not fits:
        raise InputRefused(
            "the videos of moving-digits do not fit the network's INPUT_SHAPE",
            found=str(shape),
            expected="(1, 1, frames, height, width), where height and width are at least frames + 7",
            remedy="mend INPUT_SHAPE, for example (1, 1, 6, 16, 16)",
        )
    splits: dict[Split, Batch] = {}
    for split in SPLITS:
        videos, classes = _videos(source.images[source.indices[split]], split, shape[2:], recipe.split_seed)
        splits[split] = Batch((torch.from_numpy(videos),), torch.from_numpy(classes))
    facts = {
        "name": "moving-digits",
        **source.facts,
        "n_classes": len(DIRECTIONS),
        "classes": [f"{down:+d} down, {right:+d} right" for down, right in DIRECTIONS],
        "normalisation": {"formula": "pixel / 16 + noise", "noise": NOISE},
        "split": {
            "scheme": "videos of the digits of each split",
            "seed": recipe.split_seed,
            "sizes": dict(N_VIDEOS),
            "digits": source.facts["split"],
        },
    }
    return MemoryData(MappingProxyType(splits), len(DIRECTIONS), MappingProxyType(facts))


def _videos(digits: np.ndarray, split: Split, size: tuple[int, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The videos (n, 1, frames, height, width) of a split, float32, and their classes."""
    import numpy as np

    frames, height, width = size
    rng = np.random.default_rng((seed, SPLITS.index(split)))
    n = N_VIDEOS[split]
    videos = rng.normal(0, NOISE, (n, 1, frames, height, width))
    classes = np.arange(n) % len(DIRECTIONS)
    for video, label in zip(videos, classes, strict=True):
        digit = digits[rng.integers(len(digits))]
        steps = np.array(DIRECTIONS[label])
        # The first place: where the last one is inside too.
        room = np.array([height, width]) - 8 - np.abs(steps) * (frames - 1)
        first = rng.integers(0, room + 1) + np.where(steps < 0, frames - 1, 0)
        for frame in range(frames):
            y, x = first + frame * steps
            video[0, frame, y : y + 8, x : x + 8] += digit
    return videos.astype(np.float32), classes.astype(np.int64)
