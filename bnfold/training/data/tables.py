"""Tables of scikit-learn: breast cancer (569 rows of 30 numbers, 2 classes) and wine (178 rows of 13, 3 classes).

Neither has columns of categories. For a network that embeds categories, the last columns are handed over as such: each
number becomes the quarter of the training rows that it lies in (0 to 3). The number itself is then left out.
"""

from __future__ import annotations

import hashlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.sources.extras import require
from bnfold.training.data.batches import Batch, DataSet, MemoryData
from bnfold.training.data.splits import stratified_split

if TYPE_CHECKING:
    import numpy as np

    from bnfold.training.recipe import Recipe

__all__ = ["N_BINS", "breast_cancer", "wine"]

N_BINS = 4


def breast_cancer(recipe: Recipe, input_shapes: tuple[tuple[int, ...], ...]) -> DataSet:
    """Wisconsin breast cancer (diagnostic): 569 rows of 30 numbers, benign or malignant."""
    bunch = require("sklearn.datasets", extra="train", purpose="the data set breast-cancer").load_breast_cancer()
    return _table("breast-cancer", "UCI, as sklearn.datasets.load_breast_cancer", bunch, recipe, input_shapes)


def wine(recipe: Recipe, input_shapes: tuple[tuple[int, ...], ...]) -> DataSet:
    """Wine recognition: 178 rows of 13 numbers, three cultivars."""
    bunch = require("sklearn.datasets", extra="train", purpose="the data set wine").load_wine()
    return _table("wine", "UCI, as sklearn.datasets.load_wine", bunch, recipe, input_shapes)


def _table(name: str, origin: str, bunch: Any, recipe: Recipe, input_shapes: tuple[tuple[int, ...], ...]) -> DataSet:
    import torch

    n_columns = bunch.data.shape[1]
    n_categories = _n_categories(name, n_columns, input_shapes)
    n_numbers = n_columns - n_categories
    indices = stratified_split(bunch.target, recipe.split_seed)
    numbers, scaling = _scaled(bunch.data[:, :n_numbers], indices["train"], standardise=recipe.standardise)
    inputs = [torch.from_numpy(numbers).to(torch.float32)]
    edges: list[list[float]] = []
    if n_categories:
        bins, edges = _binned(bunch.data[:, n_numbers:], indices["train"])
        inputs.append(torch.from_numpy(bins))
    targets = torch.from_numpy(bunch.target).to(torch.int64)
    n_classes = len(bunch.target_names)
    columns = [str(column) for column in bunch.feature_names]
    facts = {
        "name": name,
        "origin": origin,
        "sha256": hashlib.sha256(bunch.data.tobytes() + bunch.target.tobytes()).hexdigest(),
        "n_classes": n_classes,
        "classes": [str(label) for label in bunch.target_names],
        "numbers": columns[:n_numbers],
        "categories": dict(zip(columns[n_numbers:], edges, strict=True)),
        "normalisation": scaling,
        "split": {
            "scheme": "stratified",
            "seed": recipe.split_seed,
            "sizes": {split: len(index) for split, index in indices.items()},
            "indices": {split: index.tolist() for split, index in indices.items()},
        },
    }
    parts = {split: torch.from_numpy(index) for split, index in indices.items()}
    splits = {split: Batch(tuple(x[part] for x in inputs), targets[part]) for split, part in parts.items()}
    return MemoryData(MappingProxyType(splits), n_classes, MappingProxyType(facts))


def _n_categories(name: str, n_columns: int, input_shapes: tuple[tuple[int, ...], ...]) -> int:
    """How many of the last columns the network takes as categories: the width of its second input."""
    widths = [shape[1] if len(shape) == 2 else 0 for shape in input_shapes]
    if len(widths) > 2 or 0 in widths or sum(widths) != n_columns:
        raise InputRefused(
            f"the columns of {name} do not fit the network's inputs",
            found=" and ".join(map(str, input_shapes)),
            expected=f"(1, {n_columns}), or (1, numbers) and (1, categories) that add up to {n_columns}",
            remedy="mend INPUT_SHAPE or INPUT_SHAPES",
        )
    return widths[1] if len(widths) == 2 else 0


def _scaled(numbers: np.ndarray, train: np.ndarray, *, standardise: bool) -> tuple[np.ndarray, dict[str, Any]]:
    """Each column shifted and scaled: to mean 0 and deviation 1 over the training rows, or to 0..1 there."""
    known = numbers[train]
    if standardise:
        shift, scale = known.mean(0), known.std(0)
    else:
        shift, scale = known.min(0), known.max(0) - known.min(0)
    scaling = {"formula": "(number - shift) / scale", "shift": shift.tolist(), "scale": scale.tolist(), "over": "train"}
    return (numbers - shift) / scale, scaling


def _binned(numbers: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, list[list[float]]]:
    """Each column as the quarter of the training rows that its number lies in; the three edges of each column."""
    import numpy as np

    edges = np.quantile(numbers[train], np.arange(1, N_BINS) / N_BINS, axis=0).T
    columns = [np.searchsorted(own, column, side="right") for own, column in zip(edges, numbers.T, strict=True)]
    return np.stack(columns, axis=1).astype(np.int64), edges.tolist()
