"""What a network learns. The loop knows a task by its loss and by sums that become metrics, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from bnfold.errors import InputRefused
from bnfold.sources.model_file import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch

    from bnfold.training.data import Batch, DataSet
    from bnfold.training.recipe import Recipe

__all__ = ["TASKS", "Classification", "Task", "make_task"]


class Task(Protocol):
    """A task, without state: `tally` may be added over batches and over the processes of a distributed run."""

    @property
    def goal(self) -> str:
        """The name of the metric a user asks for first."""

    def check(self, outputs: Any, batch: Batch) -> None:
        """Refuse a network whose outputs do not fit (raises InputRefused)."""

    def loss(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """What is minimised: a scalar, the mean over the batch."""

    def tally(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """Sums over the batch, float64; the tally of a split is the sum of the tallies of its batches."""

    def metrics(self, tally: torch.Tensor) -> Mapping[str, float]:
        """The metrics of a tally."""


@dataclass(frozen=True)
class Classification:
    """One class an image: outputs (N, n_classes) logits, targets (N,) integers.

    The loss is torch.nn.functional.cross_entropy.
    """

    n_classes: int
    label_smoothing: float = 0.0
    goal: str = "accuracy"

    def check(self, outputs: Any, batch: Batch) -> None:
        """Refuse outputs that are not (N, n_classes) logits."""
        expected = (len(batch.targets), self.n_classes)
        found = tuple(outputs.shape) if hasattr(outputs, "shape") else type(outputs).__name__
        if found != expected:
            raise InputRefused(
                "the network's output does not fit a classification",
                found=str(found),
                expected=f"logits of shape {expected}",
                remedy=f"give the network one output with {self.n_classes} classes",
            )

    def loss(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """Cross-entropy, the mean over the batch."""
        from torch.nn import functional

        return functional.cross_entropy(outputs, batch.targets, label_smoothing=self.label_smoothing)

    def tally(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """The sums [n_images, n_correct, cross-entropy without smoothing]."""
        import torch
        from torch.nn import functional

        correct = (outputs.argmax(1) == batch.targets).sum()
        nll = functional.cross_entropy(outputs, batch.targets, reduction="sum")
        return torch.stack([torch.full_like(nll, len(batch.targets)), correct.to(nll), nll]).double()

    def metrics(self, tally: torch.Tensor) -> Mapping[str, float]:
        """Accuracy (0 to 1) and mean cross-entropy in nats."""
        n_images, n_correct, nll = tally.tolist()
        return {"accuracy": n_correct / n_images, "loss": nll / n_images}


def _classification(recipe: Recipe, data: DataSet) -> Task:
    return Classification(n_classes=data.n_classes, label_smoothing=recipe.label_smoothing)


TASKS: dict[str, Callable[[Recipe, DataSet], Task]] = {"classification": _classification}


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
