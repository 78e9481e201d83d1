"""`npz:PATH`: arrays of NumPy, `x` and `y`, or `x_train`, `y_train` and the same of `val` and `test`."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.training.data.batches import SPLITS, Batch, DataSet, MemoryData, Split
from bnfold.training.data.splits import completed, refuse_labels

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from bnfold.training.recipe import Recipe

__all__ = ["npz_data"]

_REMEDY = "store arrays x and y with numpy.savez, or x_train, y_train, x_test, y_test"


def npz_data(place: str, recipe: Recipe, input_shapes: tuple[tuple[int, ...], ...], *, download: bool) -> DataSet:
    """Arrays x (N, *INPUT_SHAPE[1:]) and y: (N,) classes, or (N, H, W) classes of pixels.

    Integers from 0 to 255 (uint8) are divided by 255; if the recipe says `standardise`, everything is shifted and
    scaled to mean 0 and deviation 1 over the training split. A split that is missing is taken out of training.

    Raises:
        InputRefused: no such file, arrays missing or of other shapes, values not finite, labels out of range.
    """
    import torch

    del download  # it is on this machine or not at all
    path = Path(place).expanduser()
    given = _read(path)
    for split, (x, y) in given.items():
        _refuse_misfit(x, y, input_shapes, recipe, f"{path}, split {split}")
    n_classes = int(given["train"][1].max()) + 1 if given["train"][1].dtype.kind in "iu" else 0
    for split, (_, y) in given.items():
        refuse_labels(y, n_classes, where=f"{path}, split {split}")
    strata = {split: y.reshape(len(y), -1).max(1).tolist() for split, (_, y) in given.items()}
    parts = completed(strata, recipe.split_seed)
    numbers = {split: given[origin][0][list(index)] for split, (origin, index) in parts.items()}
    mean, std = _moments(numbers["train"]) if recipe.standardise else (0.0, 1.0)
    splits: dict[Split, Batch] = {}
    for split, (origin, index) in parts.items():
        inputs = torch.from_numpy((numbers[split] - mean) / std).to(torch.float32)
        splits[split] = Batch((inputs,), torch.from_numpy(given[origin][1][list(index)]).to(torch.int64))
    facts = {
        "name": recipe.data,
        "origin": str(path.resolve()),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "n_classes": n_classes,
        "normalisation": {"formula": "(x - mean) / std", "mean": mean, "std": std, "over": "train"},
        "split": {
            "scheme": f"arrays of {', '.join(given)}; the rest stratified" if "test" in given else "stratified",
            "seed": recipe.split_seed,
            "sizes": {split: len(batch.targets) for split, batch in splits.items()},
        },
    }
    return MemoryData(MappingProxyType(splits), n_classes, MappingProxyType(facts))


def _read(path: Path) -> Mapping[Split, tuple[np.ndarray, np.ndarray]]:
    """The arrays of each split in the file; x in float64, uint8 divided by 255."""
    import numpy as np

    if not path.is_file():
        raise InputRefused("there is no such file", where=str(path), remedy="check the path behind npz:")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputRefused(
            "the file is no .npz of plain arrays", where=str(path), found=str(error)[:200], remedy=_REMEDY
        ) from error
    found: dict[Split, tuple[np.ndarray, np.ndarray]] = {}
    for split in SPLITS:
        x, y = arrays.get(f"x_{split}"), arrays.get(f"y_{split}")
        if split == "train" and x is None and y is None:
            x, y = arrays.get("x"), arrays.get("y")
        if x is not None and y is not None:
            found[split] = (x / 255.0 if x.dtype == np.uint8 else x.astype(np.float64), y)
        elif split == "train" or x is not None or y is not None:
            raise InputRefused(
                f"the file lacks arrays of the split {split}",
                where=str(path),
                found=", ".join(arrays) or "no arrays",
                remedy=_REMEDY,
            )
    return found


def _refuse_misfit(
    x: np.ndarray, y: np.ndarray, input_shapes: tuple[tuple[int, ...], ...], recipe: Recipe, where: str
) -> None:
    import numpy as np

    ranks = {"classification": 1, "segmentation": 3}
    fits = len(input_shapes) == 1 and x.shape[1:] == input_shapes[0][1:]
    if not fits or len(x) != len(y) or y.ndim != ranks[recipe.task] or not len(x):
        raise InputRefused(
            "the arrays do not fit the network and the task",
            where=where,
            found=f"x {x.shape}, y {y.shape}",
            expected=f"x (N, {', '.join(map(str, input_shapes[0][1:]))}) and as many y of {ranks[recipe.task]} axes",
            remedy="store them as the network reads them",
        )
    if not np.isfinite(x).all():
        raise InputRefused(
            "x holds values that are not finite",
            where=where,
            found=f"{int((~np.isfinite(x)).sum())} of {x.size}",
            remedy="take those samples out",
        )


def _moments(x: np.ndarray) -> tuple[float, Any]:
    return float(x.mean()), float(x.std()) or 1.0
