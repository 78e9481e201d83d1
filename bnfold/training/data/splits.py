"""Which samples are for training, for validation, and for the test, where a data set does not say so itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.errors import InputRefused
from bnfold.training.data.batches import SPLITS, Split

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

__all__ = ["completed", "refuse_empty", "refuse_labels", "stratified_split"]

# Validation and test parts of a data set that comes without a split of its own; the rest is for training.
FRACTIONS: Mapping[Split, float] = {"test": 0.2, "val": 0.1}


def stratified_split(
    targets: np.ndarray, seed: int, *, held_out: Sequence[Split] = ("test", "val")
) -> Mapping[Split, np.ndarray]:
    """Divide samples into train and the splits held out, each class in the same proportions.

    Returns:
        Ascending indices by split; every sample is in exactly one.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    parts: dict[Split, list[np.ndarray]] = {split: [] for split in SPLITS if split == "train" or split in held_out}
    for label in np.unique(targets):
        members = rng.permutation(np.flatnonzero(targets == label))
        start = 0
        for split in held_out:
            stop = start + round(len(members) * FRACTIONS[split])
            parts[split].append(members[start:stop])
            start = stop
        parts["train"].append(members[start:])
    return {split: np.sort(np.concatenate(part)) for split, part in parts.items()}


def completed(targets: Mapping[Split, Sequence[int]], seed: int) -> Mapping[Split, tuple[Split, Sequence[int]]]:
    """Take the splits that are missing out of `train`.

    Args:
        targets: the classes of the samples of each split there is, `train` at least.
        seed: of the split.

    Returns:
        For each of `SPLITS`, the split there is that its samples come from, and their numbers in it.
    """
    import numpy as np

    held_out: list[Split] = [split for split in FRACTIONS if split not in targets]
    taken = stratified_split(np.asarray(targets["train"], dtype=np.int64), seed, held_out=held_out)
    parts: dict[Split, tuple[Split, Sequence[int]]] = {}
    for split in SPLITS:
        parts[split] = ("train", taken[split].tolist()) if split in taken else (split, range(len(targets[split])))
    return parts


def refuse_labels(labels: np.ndarray, n_classes: int, *, where: str) -> None:
    """Refuse labels that are no integers from 0, or that training does not have.

    Raises:
        InputRefused: names the first one, and how many there are.
    """
    if labels.dtype.kind not in "iu":
        raise InputRefused(
            "the labels are not integers", where=where, found=str(labels.dtype), remedy="number the classes"
        )
    outside = labels[(labels < 0) | (labels >= n_classes)]
    if len(outside):
        raise InputRefused(
            "labels are out of range",
            where=where,
            found=f"{int(outside[0])}, one of {len(outside)}",
            expected=f"0 to {n_classes - 1}, the classes of the training split",
            remedy="number the classes from 0, the same in every split",
        )


def refuse_empty(sizes: Mapping[Split, int], name: str) -> None:
    """Refuse a data set with a split that nothing can be learnt or measured on.

    Raises:
        InputRefused: a split is empty, or there is a single training sample, over which a BatchNorm has no variance.
    """
    for split in SPLITS:
        least = 2 if split == "train" else 1
        if sizes[split] < least:
            raise InputRefused(
                f"the {split} split of {name} is {'empty' if not sizes[split] else 'a single sample'}",
                found=", ".join(f"{key} {size}" for key, size in sizes.items()),
                expected="at least two, since a BatchNorm has no variance over one" if least > 1 else "at least one",
                remedy="add samples, of each class about ten",
            )
