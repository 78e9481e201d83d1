"""Semantic segmentation: a class for each pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bnfold.training.tasks.base import SupervisedTask, require_shapes

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from bnfold.training.data import Batch, DataSet
    from bnfold.training.recipe import Recipe
    from bnfold.training.tasks.base import Task

__all__ = ["Segmentation", "segmentation"]


@dataclass(frozen=True)
class Segmentation(SupervisedTask):
    """One class a pixel: outputs (N, n_classes, H, W) logits, targets (N, H, W) integers.

    The loss is the mean cross-entropy over pixels. The goal is the intersection over union of the pixels of a class,
    the mean over the classes that a target or an output has (Everingham et al., 2015, section 3.3).
    """

    n_classes: int
    label_smoothing: float = 0.0
    goal: str = "miou"
    maximise: bool = True

    def check(self, outputs: Any, batch: Batch) -> None:
        """Refuse outputs that are not (N, n_classes, H, W) logits."""
        n, height, width = batch.targets.shape
        require_shapes("segmentation", (outputs,), ((n, self.n_classes, height, width),))

    def loss(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """Cross-entropy, the mean over pixels."""
        from torch.nn import functional

        logits, classes = _pixels(outputs, batch.targets)
        return functional.cross_entropy(logits, classes, label_smoothing=self.label_smoothing)

    def tally(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """The sum of cross-entropies, then the pixels of each target class (row) by output class (column)."""
        import torch
        from torch.nn import functional

        logits, classes = _pixels(outputs, batch.targets)
        confusion = torch.bincount(classes * self.n_classes + logits.argmax(1), minlength=self.n_classes**2)
        nll = functional.cross_entropy(logits, classes, reduction="sum")
        return torch.cat([nll.double()[None], confusion.double()])

    def metrics(self, tally: torch.Tensor) -> Mapping[str, float]:
        """Mean intersection over union and pixel accuracy (0 to 1), mean cross-entropy in nats a pixel."""
        confusion = tally[1:].reshape(self.n_classes, self.n_classes)
        right, n_pixels = confusion.diagonal(), confusion.sum()
        union = confusion.sum(0) + confusion.sum(1) - right
        present = union > 0
        return {
            "miou": (right[present] / union[present]).mean().item(),
            "pixel_accuracy": (right.sum() / n_pixels).item(),
            "loss": (tally[0] / n_pixels).item(),
        }


def _pixels(outputs: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each pixel as a sample of its own, (pixels, n_classes) and (pixels,).

    On a GPU, PyTorch's cross-entropy of images has no deterministic form, that of rows has.
    """
    return outputs.movedim(1, -1).flatten(0, -2), targets.flatten()


def segmentation(recipe: Recipe, data: DataSet) -> Task:
    """The segmentation into a data set's classes."""
    return Segmentation(n_classes=data.n_classes, label_smoothing=recipe.label_smoothing)
