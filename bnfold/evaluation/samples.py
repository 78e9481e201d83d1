"""Which samples a network is evaluated on.

Where the data is what the network learnt on, its own test split and scaling are taken, so that the metrics are those of
the training run to the last sample. Any other data is labelled images or arrays, all of them, and images are normalised
as the file's metadata says.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bnfold.errors import InputRefused
from bnfold.evaluation.labelled import Samples, labelled_arrays, labelled_folder, preprocessing_of
from bnfold.sources.preprocessing import normalised
from bnfold.training.data import make_data
from bnfold.training.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bnfold.evaluation.contenders import Contender
    from bnfold.evaluation.labelled import Batches
    from bnfold.records import InputSpec
    from bnfold.training.data import DataSet

    Inputs = tuple[np.ndarray, ...]

__all__ = ["open_samples"]

SplitName = Literal["train", "val", "test"]
log = logging.getLogger("bnfold.evaluation")


def open_samples(
    spec: str | None,
    contender: Contender,
    *,
    split: SplitName = "test",
    task: str | None = None,
    download: bool = False,
) -> Samples:
    """The samples that a contender is evaluated on.

    Args:
        spec: a data set of `bnfold train` (`digits`, `folder:PATH`, `npz:PATH`, `torchvision:NAME`, `hf:NAME`); None
            takes the one that the network learnt on.
        contender: reads them.
        split: which part, where the data has parts.
        task: what the targets are for; None takes what the file says, else "classification".
        download: whether data that is not on this machine may be fetched.

    Raises:
        InputRefused: no such data, nothing in it, it does not fit, or nothing says how to read it.
        EnvironmentNotReady: a package is missing.
    """
    facts = contender.facts
    own = facts.data or {}
    if spec is None:
        spec = own.get("data")
        if spec is None:
            raise InputRefused(
                "nothing says which data to evaluate on", where=contender.path,
                remedy="give it with --data, for example --data folder:flowers/test",
            )  # fmt: skip
    if _is_own(spec, own):
        return _of_recipe({**own, "data": spec}, contender, split, download=download)
    kind, _, place = spec.partition(":")
    task = task or facts.task or "classification"
    if kind == "folder" and task != "classification":
        raise InputRefused(
            f"folders of images have no targets for a {task}", where=spec,
            remedy="store images and targets with numpy.savez and name npz:PATH, or evaluate a classification",
        )  # fmt: skip
    if kind == "folder" and place:
        return labelled_folder(spec, Path(place).expanduser(), contender, split)
    if kind == "npz" and place:
        return labelled_arrays(spec, Path(place).expanduser(), contender, split, task)
    return _unscaled({"data": spec, "task": task}, contender, split, download=download)


def _is_own(spec: str, own: Mapping[str, Any]) -> bool:
    """Whether it is the data of the recipe; a file knows folders and arrays by their last name only."""
    recorded = str(own.get("data", ""))
    if spec == recorded:
        return True
    kind, _, place = spec.partition(":")
    is_same = bool(own.get("place_is_name")) and kind in ("folder", "npz") and recorded == f"{kind}:{Path(place).name}"
    if is_same:
        log.warning("%s has the name of the training data: its own split is evaluated, not all of it", spec)
    return is_same


def _of_recipe(own: Mapping[str, Any], contender: Contender, split: SplitName, *, download: bool) -> Samples:
    """A split of the data that the network learnt on, scaled as then."""
    known = {field.name for field in dataclasses.fields(Recipe)}
    given = {key: value for key, value in own.items() if key in known and value is not None}
    size = given.get("image_size")
    recipe = Recipe(**{**given, "image_size": None if size is None else tuple(size)})
    data = make_data(recipe, _shapes(contender.inputs, contender.path), download=download)
    return _of_data(data, recipe, split, lambda inputs: inputs)


def _unscaled(own: Mapping[str, Any], contender: Contender, split: SplitName, *, download: bool) -> Samples:
    """A split of a data set of images from 0 to 1, normalised as the file says."""
    shapes = _shapes(contender.inputs, contender.path)
    images = len(shapes) == 1 and len(shapes[0]) == 4
    preprocessing = preprocessing_of(contender, own["data"]) if images else None
    recipe = Recipe(
        **own,
        standardise=False,
        image_size=(shapes[0][2], shapes[0][3]) if images and own["data"] == "digits" else None,
    )
    data = make_data(recipe, shapes, download=download)

    def scaled(inputs: Inputs) -> Inputs:
        if preprocessing is None:
            return inputs
        return (normalised(255.0 * inputs[0].astype(np.float64).transpose(0, 2, 3, 1), preprocessing),)

    if preprocessing is None:
        log.warning("nothing says how %s is scaled: it is read as it is", own["data"])
    return _of_data(data, recipe, split, scaled)


def _of_data(data: DataSet, recipe: Recipe, split: SplitName, scaled: Callable[[Inputs], Inputs]) -> Samples:
    def batches(size: int) -> Batches:
        for inputs, targets in data.batches(split, size):
            yield scaled(tuple(x.numpy() for x in inputs)), targets.numpy()

    facts = data.facts
    parts = facts["split"]
    digest = hashlib.sha256(f"{facts.get('sha256') or facts.get('origin')} {split} {parts}".encode()).hexdigest()
    return Samples(
        spec=recipe.data,
        split=split,
        n=int(parts["sizes"][split]),
        sha256=digest,
        task=recipe.task,
        classes=tuple(facts.get("classes") or map(str, range(data.n_classes))),
        batches=batches,
        recipe=recipe,
        data=data,
    )


def _shapes(inputs: Sequence[InputSpec], where: str) -> tuple[tuple[int, ...], ...]:
    """The shapes with 1 as batch, as `bnfold train` knows them.

    Raises:
        InputRefused: an axis besides the batch is open.
    """
    if any(size is None for spec in inputs for size in spec.shape[1:]):
        raise InputRefused(
            "the sizes of the input are open, and the data has to be made for one", where=where,
            found=" and ".join(str(spec.shape) for spec in inputs),
            remedy="evaluate on folder: or npz: data, with --normalize size=HxW, or a file of fixed sizes",
        )  # fmt: skip
    return tuple((1, *(size or 1 for size in spec.shape[1:])) for spec in inputs)
