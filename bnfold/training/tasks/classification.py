"""Classification: one class a sample, be it an image, a sequence or the row of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.training.tasks.base import SupervisedTask

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from bnfold.training.data import Batch, DataSet
    from bnfold.training.recipe import Recipe
    from bnfold.training.tasks.base import Task

__all__ = ["Classification", "classification"]


@dataclass(frozen=True)
class Classification(SupervisedTask):
    """One class a sample: outputs (N, n_classes) logits, targets (N,) integers.

    The loss is torch.nn.functional.cross_entropy.
    """

    n_classes: int
    label_smoothing: float = 0.0
    goal: str = "accuracy"
    maximise: bool = True

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


def classification(recipe: Recipe, data: DataSet) -> Task:
    """The classification of a data set's classes."""
    return Classification(n_classes=data.n_classes, label_smoothing=recipe.label_smoothing)
