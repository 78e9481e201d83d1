"""Images of several sizes in one batch, for files that take any: kept one by one, run size by size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bnfold.errors import InputRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["has_several_sizes", "run_by_size", "stacked"]


def stacked(images: Sequence[np.ndarray]) -> np.ndarray:
    """Images as one array, samples first; as an array (n,) of arrays where their shapes differ."""
    if len({image.shape for image in images}) == 1:
        return np.stack(images)
    found = np.empty(len(images), object)
    found[:] = images
    return found


def has_several_sizes(array: np.ndarray) -> bool:
    """Whether an array is one of arrays, as `stacked` makes it."""
    return array.dtype == object


def run_by_size(
    run: Callable[[Sequence[np.ndarray]], list[np.ndarray]], images: np.ndarray, where: str
) -> list[np.ndarray]:
    """The outputs for images of several sizes, in their order; those of one size run together.

    Args:
        run: from one input to outputs, samples first.
        images: as `stacked` makes them.
        where: the file, for errors.

    Raises:
        InputRefused: the outputs differ in shape, as the images do.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, image in enumerate(images):
        groups.setdefault(image.shape, []).append(index)
    parts = [run([np.stack(list(images[group]))]) for group in groups.values()]
    order = np.argsort([index for group in groups.values() for index in group])
    for part in parts[1:]:
        for first, other in zip(parts[0], part, strict=True):
            if first.shape[1:] != other.shape[1:]:
                raise InputRefused(
                    "the outputs are as different in size as the images", where=where,
                    found=f"{first.shape[1:]} and {other.shape[1:]}", expected="outputs of one shape",
                    remedy="say with --normalize size=HxW what images are resized to",
                )  # fmt: skip
    return [np.concatenate(own)[order] for own in zip(*parts, strict=True)]
