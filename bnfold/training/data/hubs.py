"""`torchvision:NAME` and `hf:NAME`: data sets of torchvision and of the Hugging Face hub, fetched only if allowed.

Torchvision's lie in the folder `$BNFOLD_DATA` (`~/.cache/bnfold` where it is not set), those of the hub in its cache.
"""

from __future__ import annotations

import inspect
import os
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.errors import EnvironmentNotReady, InputRefused
from bnfold.sources.extras import require
from bnfold.sources.model_file import nearest
from bnfold.sources.usercode import described
from bnfold.training.data.batches import DataSet, Split
from bnfold.training.data.images import ImageSplit, image_data
from bnfold.training.data.splits import completed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bnfold.training.recipe import Recipe

__all__ = ["hub_data", "torchvision_data"]

_PUBLISHED: tuple[Split, ...] = ("train", "test")
EMBEDDED = "--data digits, which comes with scikit-learn"


def torchvision_data(
    place: str, recipe: Recipe, input_shapes: tuple[tuple[int, ...], ...], *, download: bool
) -> DataSet:
    """A data set of torchvision.datasets that gives an image and a class: MNIST, FashionMNIST, CIFAR10, SVHN, ...

    Raises:
        InputRefused: no such data set, or it is not on this machine and may not be fetched.
        EnvironmentNotReady: torchvision is not installed, or the data cannot be fetched.
    """
    library = require("torchvision.datasets", extra="zoo", purpose=f"the data set {recipe.data}")
    factory: Any = getattr(library, place, None)
    if not isinstance(factory, type):
        raise InputRefused(
            f"torchvision has no data set {place!r}",
            remedy=nearest(place, list(library.__all__), listing="see torchvision.datasets for the names"),
        )
    root = Path(os.environ.get("BNFOLD_DATA", Path.home() / ".cache" / "bnfold")).expanduser()
    options = inspect.signature(factory).parameters
    by_flag = "train" in options
    if not by_flag and "split" not in options:
        raise InputRefused(
            f"the data set {place} of torchvision has no training and test part",
            remedy="sort its images into folders and train on folder:PATH",
        )
    allowed = {"download": download} if "download" in options else {}
    parts: dict[Split, Any] = {}
    with _absence_named(recipe.data, download=download):
        for split in _PUBLISHED:
            which: dict[str, Any] = {"train": split == "train"} if by_flag else {"split": split}
            parts[split] = factory(str(root), **which, **allowed)
    labels = {split: _labels(part, len(part), partial(_item, part, 1)) for split, part in parts.items()}
    readers = {split: partial(_item, part, 0) for split, part in parts.items()}
    return _data(recipe, input_shapes, readers, labels, origin=f"torchvision.datasets.{place}")


def hub_data(place: str, recipe: Recipe, input_shapes: tuple[tuple[int, ...], ...], *, download: bool) -> DataSet:
    """A data set of the Hugging Face hub with a column of images and one of class labels.

    Raises:
        InputRefused: it has no such columns or no training part, or it is not on this machine and may not be fetched.
        EnvironmentNotReady: the package `datasets` is not installed, or the data cannot be fetched.
    """
    library = require("datasets", extra="hub", purpose=f"the data set {recipe.data}")
    with _hub_mode(library, online=download), _absence_named(recipe.data, download=download):
        loaded = library.load_dataset(place)
    names: dict[Split, tuple[str, ...]] = {
        "train": ("train",),
        "val": ("validation", "val", "valid"),
        "test": ("test",),
    }
    parts = {split: loaded[name] for split, known in names.items() for name in known if name in loaded}
    if "train" not in parts:
        raise InputRefused(
            f"{recipe.data} has no training part", found=", ".join(loaded), remedy="take another data set"
        )
    image, label = _columns(parts["train"].features, recipe.data)
    labels = {split: [int(value) for value in part[label]] for split, part in parts.items()}
    readers = {split: partial(_item, part, image) for split, part in parts.items()}
    return _data(recipe, input_shapes, readers, labels, origin=f"https://huggingface.co/datasets/{place}")


def _columns(features: Mapping[str, Any], name: str) -> tuple[str, str]:
    """The names of the first column of images and of the first of class labels."""
    kinds = {column: type(feature).__name__ for column, feature in features.items()}
    image = next((column for column, kind in kinds.items() if kind == "Image"), None)
    label = next((column for column, kind in kinds.items() if kind == "ClassLabel"), None)
    if image is None or label is None:
        raise InputRefused(
            f"{name} is not a data set of images and classes",
            found=", ".join(f"{column} ({kind})" for column, kind in kinds.items()),
            expected="a column of kind Image and one of kind ClassLabel",
            remedy="take another data set, or write its images to folders and train on folder:PATH",
        )
    return image, label


def _data(
    recipe: Recipe,
    input_shapes: tuple[tuple[int, ...], ...],
    readers: Mapping[Split, Callable[[int], Any]],
    labels: Mapping[Split, Sequence[int]],
    *,
    origin: str,
) -> DataSet:
    """The splits, those that are missing taken out of training."""
    n_classes = max(labels["train"]) + 1
    parts = completed(labels, recipe.split_seed)
    splits = {
        split: ImageSplit(
            partial(_renumbered, readers[source], numbers),
            [labels[source][number] for number in numbers],
        )
        for split, (source, numbers) in parts.items()
    }
    facts = {
        "name": recipe.data,
        "origin": origin,
        "split": {
            "scheme": f"{', '.join(labels)} as published; the rest stratified, out of train",
            "seed": recipe.split_seed,
            "sizes": {split: len(own.targets) for split, own in splits.items()},
        },
    }
    return image_data(splits, recipe, input_shapes, n_classes=n_classes, facts=facts)


def _item(part: Any, key: int | str, number: int) -> Any:
    return part[number][key]


def _renumbered(read: Callable[[int], Any], numbers: Sequence[int], number: int) -> Any:
    return read(numbers[number])


def _labels(part: Any, n: int, read: Callable[[int], Any]) -> list[int]:
    """The classes of a data set of torchvision: its list of them where it has one, else each sample's."""
    stated = getattr(part, "targets", getattr(part, "labels", None))
    if stated is not None and len(stated) == n:
        return [int(label) for label in stated]
    return [int(read(number)) for number in range(n)]


@contextmanager
def _absence_named(name: str, *, download: bool) -> Iterator[None]:
    """Say of a data set that cannot be had what to do; never take another one instead."""
    try:
        yield
    except Exception as error:
        if download:
            raise EnvironmentNotReady(
                f"the data set {name} cannot be fetched",
                found=described(error)[:300],
                remedy=f"check the name and the connection, or train on {EMBEDDED}",
            ) from error
        raise InputRefused(
            f"the data set {name} is not on this machine",
            found=described(error)[:300],
            remedy=f"add --download to fetch it, or train on {EMBEDDED}",
        ) from error


@contextmanager
def _hub_mode(library: Any, *, online: bool) -> Iterator[None]:
    """Keep `datasets` and `huggingface_hub` from the network; a user's own HF_HUB_OFFLINE holds in any case."""
    hub = require("huggingface_hub.constants", extra="hub", purpose="a data set of the hub")
    owners = (library.config, hub)
    before = [owner.HF_HUB_OFFLINE for owner in owners]
    for owner, offline in zip(owners, before, strict=True):
        owner.HF_HUB_OFFLINE = offline or not online
    try:
        yield
    finally:
        for owner, offline in zip(owners, before, strict=True):
            owner.HF_HUB_OFFLINE = offline
