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

# The axes of y for each task: how many, and which.
_AXES = {"classification": (1, "(N,)"), "segmentation": (3, "(N, height, width)"), "detection": (3, "(N, objects, 5)")}
_REMEDY = "store arrays x and y with numpy.savez, or x_train, y_train, x_test, y_test"


def npz_data(place: str, recipe: Recipe, input_shapes: tuple[tuple[int, ...], ...], *, download: bool) -> DataSet:
    """Arrays x (N, *INPUT_SHAPE[1:]) and y: (N,) classes, (N, H, W) classes of pixels, or (N, objects, 5) boxes.

    A box is (class, left, top, right, bottom) in pixels, five times -1 where there is none.

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
    n_classes = int(_classes(given["train"][1], recipe.task).max(initial=0)) + 1
    for split, (_, y) in given.items():
        refuse_labels(_classes(y, recipe.task), n_classes, where=f"{path}, split {split}")
    # The largest class of a sample of several stands for it.
    rows = {split: y[:, :, 0] if recipe.task == "detection" else y for split, (_, y) in given.items()}
    strata = {split: own.reshape(len(own), -1).max(1).tolist() for split, own in rows.items()}
    parts = completed(strata, recipe.split_seed)
    numbers = {split: given[origin][0][list(index)] for split, (origin, index) in parts.items()}
    mean, std = _moments(numbers["train"]) if recipe.standardise else (0.0, 1.0)
    kind = torch.float32 if recipe.task == "detection" else torch.int64
    splits: dict[Split, Batch] = {}
    for split, (origin, index) in parts.items():
        inputs = torch.from_numpy((numbers[split] - mean) / std).to(torch.float32)
        splits[split] = Batch((inputs,), torch.from_numpy(given[origin][1][list(index)]).to(kind))
    facts = {
        "name": recipe.data,
        "origin": str(path.resolve()),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "n_classes": n_classes,
        "normalisation": {"formula": "(x - mean) / std", "mean": mean, "std": std, "over": "train"},
        "split": {
            "scheme": f"arrays of {', '.join(given)}; the rest stratified, out of train",
            "seed": recipe.split_seed,
            "sizes": {split: len(batch.targets) for split, batch in splits.items()},
        },
    }
    return MemoryData(MappingProxyType(splits), n_classes, MappingProxyType(facts))


def _read(path: Path) -> Mapping[Split, tuple[np.ndarray, np.ndarray]]:
    """The arrays of each split in the file; x in float64, uint8 divided by 255."""
    import numpy as np

    if not path.is_file():
        raise InputRefused("no such file", where=str(path), remedy="check the path behind npz:")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputRefused(
            "the file is not an .npz of plain arrays", where=str(path), found=str(error)[:200], remedy=_REMEDY
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

    rank, axes = _AXES[recipe.task]
    fits = len(input_shapes) == 1 and x.shape[1:] == input_shapes[0][1:] and len(x) == len(y) > 0
    if not fits or y.ndim != rank or (recipe.task == "detection" and y.shape[2] != 5):
        raise InputRefused(
            "the arrays do not fit the network and the task",
            where=where,
            found=f"x {x.shape}, y {y.shape}",
            expected=f"x (N, {', '.join(map(str, input_shapes[0][1:]))}) and as many y {axes}",
            remedy="store them as the network reads them",
        )
    if not np.isfinite(x).all():
        raise InputRefused(
            "x holds values that are not finite",
            where=where,
            found=f"{int((~np.isfinite(x)).sum())} of {x.size}",
            remedy="take those samples out",
        )


def _classes(y: np.ndarray, task: str) -> np.ndarray:
    """The classes that targets name: all of y, or those of the boxes there are."""
    if task != "detection":
        return y
    import numpy as np

    named: np.ndarray = y[:, :, 0][y[:, :, 0] != -1]
    return named.astype(np.int64) if (named == np.floor(named)).all() else named


def _moments(x: np.ndarray) -> tuple[float, Any]:
    return float(x.mean()), float(x.std()) or 1.0
