"""The data sets by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.errors import InputRefused
from bnfold.sources.model_file import nearest
from bnfold.training.data.digits import digits

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnfold.training.data.batches import DataSet
    from bnfold.training.recipe import Recipe

__all__ = ["DATA_SETS", "make_data"]

DATA_SETS: dict[str, Callable[[Recipe, tuple[tuple[int, ...], ...]], DataSet]] = {"digits": digits}


def make_data(recipe: Recipe, input_shapes: tuple[tuple[int, ...], ...], *, download: bool = False) -> DataSet:
    """The data set a recipe names, in the shapes the network takes.

    Args:
        recipe: names the data set and the image size.
        input_shapes: one for each input of the network, with a leading 1 as batch.
        download: whether a data set that is not on this machine may be fetched.

    Raises:
        InputRefused: no such data set, or it does not fit the network.
        EnvironmentNotReady: the package that brings the data is missing.
    """
    del download  # the data sets so far are all on the machine
    if recipe.data not in DATA_SETS:
        raise InputRefused(
            f"there is no data set {recipe.data!r}",
            remedy=nearest(recipe.data, list(DATA_SETS), listing=f"known data sets: {', '.join(DATA_SETS)}"),
        )
    return DATA_SETS[recipe.data](recipe, input_shapes)
