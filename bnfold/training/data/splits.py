"""Which samples are for training, for validation, and for the test, where a data set does not say so itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.training.data.batches import SPLITS, Split

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

__all__ = ["stratified_split"]

# Validation and test parts of a data set that comes without a split of its own; the rest is for training.
VAL_FRACTION, TEST_FRACTION = 0.1, 0.2


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
