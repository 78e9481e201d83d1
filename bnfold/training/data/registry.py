"""The data sets by name, and what can be learnt from each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bnfold.errors import InputRefused
from bnfold.sources.model_file import nearest
from bnfold.training.data.arrays import npz_data
from bnfold.training.data.canvases import canvases
from bnfold.training.data.digits import digits
from bnfold.training.data.folders import image_folder
from bnfold.training.data.hubs import hub_data, torchvision_data
from bnfold.training.data.latents import digits_with_latents
from bnfold.training.data.moving import moving_digits
from bnfold.training.data.splits import refuse_empty
from bnfold.training.data.tables import breast_cancer, wine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bnfold.training.data.batches import DataSet
    from bnfold.training.recipe import Recipe

__all__ = ["DATA_SETS", "make_data"]

Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class _Embedded:
    """A data set that comes with a package: how to make it for each task that it has targets for."""

    makers: Mapping[str, Callable[[Recipe, Shapes], DataSet]]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks it has targets for."""
        return tuple(self.makers)


@dataclass(frozen=True)
class _Placed:
    """Data sets named by a kind and a place, `KIND:PLACE`; `make` takes the place."""

    make: Callable[..., DataSet]
    tasks: tuple[str, ...]
    place: str


DATA_SETS: dict[str, _Embedded] = {
    "digits": _Embedded({"classification": digits, "generation": digits_with_latents}),
    "canvases": _Embedded({"segmentation": canvases, "detection": canvases}),
    "moving-digits": _Embedded({"classification": moving_digits}),
    "breast-cancer": _Embedded({"classification": breast_cancer}),
    "wine": _Embedded({"classification": wine}),
}
KINDS: dict[str, _Placed] = {
    "folder": _Placed(image_folder, ("classification",), "PATH"),
    "npz": _Placed(npz_data, ("classification", "segmentation", "detection"), "PATH"),
    "torchvision": _Placed(torchvision_data, ("classification",), "NAME"),
    "hf": _Placed(hub_data, ("classification",), "NAME"),
}


def make_data(recipe: Recipe, input_shapes: Shapes, *, download: bool = False) -> DataSet:
    """The data set a recipe names, in the shapes the network takes, with the targets of its task.

    Args:
        recipe: names the data set, the task and the image size.
        input_shapes: one for each input of the network, with a leading 1 as batch.
        download: whether a data set that is not on this machine may be fetched.

    Raises:
        InputRefused: no such data set, it does not fit the network or the task, or a split of it is empty.
        EnvironmentNotReady: the package that brings the data is missing.
    """
    kind, colon, place = recipe.data.partition(":")
    if colon and kind in KINDS and place:
        _refuse_task(recipe, KINDS[kind].tasks)
        data = KINDS[kind].make(place, recipe, input_shapes, download=download)
    elif recipe.data in DATA_SETS:
        _refuse_task(recipe, DATA_SETS[recipe.data].tasks)
        data = DATA_SETS[recipe.data].makers[recipe.task](recipe, input_shapes)
    else:
        known = [*DATA_SETS, *(f"{name}:{entry.place}" for name, entry in KINDS.items())]
        file = Path(recipe.data)
        of_file = "folder" if file.is_dir() else "npz" if file.suffix == ".npz" else None
        raise InputRefused(
            f"there is no data set {recipe.data!r}",
            remedy=nearest(recipe.data, known, listing=f"known data sets: {', '.join(known)}")
            if of_file is None
            else f"write {of_file}:{recipe.data}",
        )
    refuse_empty(data.facts["split"]["sizes"], recipe.data)
    return data


def _refuse_task(recipe: Recipe, tasks: tuple[str, ...]) -> None:
    if recipe.task in tasks:
        return
    suited = [name for name, entry in DATA_SETS.items() if recipe.task in entry.tasks]
    raise InputRefused(
        f"the data set {recipe.data} has no targets for the task {recipe.task!r}",
        expected=f"a task of {', '.join(tasks)}",
        remedy=f"take the data set {' or '.join(suited)}" if suited else "correct the task of the recipe",
    )
