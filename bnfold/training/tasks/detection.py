"""One-stage detection: a heat map of centres for each class, and a box at each centre."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bnfold.training.tasks import boxes as boxes_of
from bnfold.training.tasks.base import SupervisedTask, require_shapes

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from bnfold.training.data import Batch, DataSet
    from bnfold.training.recipe import Recipe
    from bnfold.training.tasks.base import Task

__all__ = ["Detection", "detection"]

N_BINS = 1000  # of scores: two detections whose scores differ by less than 1/1000 count as equally sure
LEAST_IOU = 0.5


@dataclass(frozen=True)
class Detection(SupervisedTask):
    """Outputs (N, n_classes, H, W) logits of centres and (N, 4, H, W) distances in cells; targets (N, objects, 5).

    The loss is the focal loss of Zhou et al. (2019), equation 1, on the heat map, and -log of the intersection over
    union at the centres (Yu et al., "UnitBox", 2016). The goal is the average precision at an overlap of 0.5: the area
    under the precision, made falling, over the recall, the mean over the classes.
    """

    n_classes: int
    goal: str = "ap50"
    maximise: bool = True

    def check(self, outputs: Any, batch: Batch) -> None:
        """Refuse outputs that are not a heat map and a map of four distances, of one size that divides the input's."""
        found = tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)
        n, _, height, width = batch.inputs[0].shape
        rows = getattr(found[0], "shape", (0, 0, 0))[2] if getattr(found[0], "ndim", 0) == 4 else 0
        stride = height // rows if rows and height % rows == 0 else 4
        cells = (height // stride, width // stride)
        require_shapes("detection", found, ((n, self.n_classes, *cells), (n, 4, *cells)))

    def loss(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """The focal loss and the boxes' loss, each a mean over the objects."""
        import torch
        from torch.nn import functional

        heat, distances = outputs
        stride = _stride(batch, heat)
        objects = boxes_of.centres(batch.targets, stride)
        wanted = boxes_of.heat_targets(objects, tuple(heat.shape), stride)
        probability = heat.sigmoid()
        is_centre = wanted == 1
        hit = (1 - probability) ** 2 * functional.logsigmoid(heat)
        miss = (1 - wanted) ** 4 * probability**2 * functional.logsigmoid(-heat)
        n_objects = max(1, len(objects.label))
        focal = -torch.where(is_centre, hit, miss).sum() / n_objects
        own = distances[objects.canvas, :, objects.row, objects.column]
        found = boxes_of.decoded(own, objects.row, objects.column, stride)
        overlap = boxes_of.iou(found, objects.boxes)
        return focal - overlap.clamp(min=1e-6).log().sum() / n_objects

    def tally(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """Right and wrong detections (n_classes, 2, N_BINS) by score, objects of each class, canvases, their losses."""
        import torch

        heat, distances = outputs
        scores, labels, boxes = boxes_of.detections(heat, distances, _stride(batch, heat))
        counts = torch.zeros(self.n_classes, 2, N_BINS, dtype=torch.float64)
        bins = (scores * N_BINS).long().clamp(max=N_BINS - 1)
        for canvas in range(len(heat)):
            right = boxes_of.matched(labels[canvas], boxes[canvas], batch.targets[canvas], least_iou=LEAST_IOU)
            for label, score, is_right in zip(labels[canvas].tolist(), bins[canvas].tolist(), right, strict=True):
                counts[label, 0 if is_right else 1, score] += 1
        present = batch.targets[:, :, 0].long()
        objects = torch.bincount(present[present >= 0].flatten(), minlength=self.n_classes).double()
        n = len(heat)
        loss = self.loss(outputs, batch).double() * n
        return torch.cat([counts.flatten(), objects.cpu(), torch.stack([loss.new_tensor(float(n)), loss]).cpu()])

    def metrics(self, tally: torch.Tensor) -> Mapping[str, float]:
        """Average precision at 0.5 (0 to 1), and the mean loss."""
        n_counts = self.n_classes * 2 * N_BINS
        counts = tally[:n_counts].reshape(self.n_classes, 2, N_BINS)
        objects = tally[n_counts : n_counts + self.n_classes]
        precisions = [
            average_precision(right, wrong, n)
            for (right, wrong), n in zip(counts, objects.tolist(), strict=True)
            if n > 0
        ]
        n, loss = tally[-2:].tolist()
        return {"ap50": sum(precisions) / max(1, len(precisions)), "loss": loss / n}


def average_precision(right: torch.Tensor, wrong: torch.Tensor, n_objects: float) -> float:
    """The area under the falling envelope of precision over recall, from counts by ascending score."""
    hits, misses = right.flip(0).cumsum(0), wrong.flip(0).cumsum(0)
    precision = hits / (hits + misses).clamp(min=1)
    envelope = precision.flip(0).cummax(0).values.flip(0)
    return float((right.flip(0) / n_objects * envelope).sum())


def _stride(batch: Batch, heat: torch.Tensor) -> int:
    return int(batch.inputs[0].shape[-1]) // int(heat.shape[-1])


def detection(recipe: Recipe, data: DataSet) -> Task:
    """The detection of a data set's classes."""
    del recipe  # nothing to set
    return Detection(n_classes=data.n_classes)
