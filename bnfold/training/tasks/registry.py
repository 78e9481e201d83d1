"""The tasks by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.errors import InputRefused
from bnfold.sources.model_file import nearest
from bnfold.training.tasks.classification import classification
from bnfold.training.tasks.detection import detection
from bnfold.training.tasks.generation import generation
from bnfold.training.tasks.segmentation import segmentation

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnfold.training.data import DataSet
    from bnfold.training.recipe import Recipe
    from bnfold.training.tasks.base import Task

__all__ = ["TASKS", "make_task"]

TASKS: dict[str, Callable[[Recipe, DataSet], Task]] = {
    "classification": classification,
    "segmentation": segmentation,
    "detection": detection,
    "generation": generation,
}


def make_task(recipe: Recipe, data: DataSet) -> Task:
    """The task a recipe names.

    Raises:
        InputRefused: no such task.
    """
    if recipe.task not in TASKS:
        raise InputRefused(
            f"there is no task {recipe.task!r}",
            remedy=nearest(recipe.task, list(TASKS), listing=f"known tasks: {', '.join(TASKS)}"),
        )
    return TASKS[recipe.task](recipe, data)
