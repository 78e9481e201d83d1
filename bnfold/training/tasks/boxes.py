"""Boxes on a grid of cells: what a network should give for them, what it means, and how right it is.

A box is (left, top, right, bottom) in pixels. The targets of a canvas are rows (class, left, top, right, bottom), -1
where there is none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

__all__ = ["Centres", "centres", "decoded", "detections", "heat_targets", "iou", "matched", "middles"]

N_DETECTIONS = 20  # of one canvas, the surest


class Centres(NamedTuple):
    """The objects of a batch, n in all: canvas, class and cell (row, column), each (n,), and boxes (n, 4)."""

    canvas: torch.Tensor
    label: torch.Tensor
    row: torch.Tensor
    column: torch.Tensor
    boxes: torch.Tensor


def centres(targets: torch.Tensor, stride: int) -> Centres:
    """The cells that the middles of the boxes of targets (N, objects, 5) lie in; a cell is `stride` pixels wide."""
    canvas, which = (targets[:, :, 0] >= 0).nonzero(as_tuple=True)
    rows = targets[canvas, which]
    boxes = rows[:, 1:]
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    column, row = (middle / stride).long().unbind(1)
    return Centres(canvas, rows[:, 0].long(), row, column, boxes)


def heat_targets(objects: Centres, shape: tuple[int, ...], stride: int) -> torch.Tensor:
    """The heat map (N, classes, H, W) of a batch: 1 in the cells of the centres, and Gaussians around them.

    The deviation is a sixth of the larger side of the box (Zhou et al., 2019, section 3); where Gaussians meet, the
    larger value is taken.
    """
    import torch

    heat = torch.zeros(shape, device=objects.boxes.device)
    y = torch.arange(shape[2], device=heat.device)[:, None]
    x = torch.arange(shape[3], device=heat.device)[None, :]
    sides = (objects.boxes[:, 2:] - objects.boxes[:, :2]).amax(1) / stride
    for index, side in enumerate(sides.tolist()):
        canvas, label = int(objects.canvas[index]), int(objects.label[index])
        distance = (y - objects.row[index]) ** 2 + (x - objects.column[index]) ** 2
        bump = torch.exp(-distance / (2 * (side / 6) ** 2))
        heat[canvas, label] = torch.maximum(heat[canvas, label], bump)
    return heat


def middles(row: torch.Tensor, column: torch.Tensor, stride: int) -> torch.Tensor:
    """The middles of cells as (..., 4) pixels: x, y, x, y."""
    import torch

    x, y = (column + 0.5) * stride, (row + 0.5) * stride
    return torch.stack([x, y, x, y], dim=-1)


def decoded(distances: torch.Tensor, row: torch.Tensor, column: torch.Tensor, stride: int) -> torch.Tensor:
    """Boxes (n, 4) from distances (n, 4), in cells, from the middles of their cells to left, top, right, bottom."""
    sign = distances.new_tensor([-1.0, -1.0, 1.0, 1.0])
    return middles(row, column, stride) + sign * stride * distances


def iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Intersection over union of boxes (..., 4), broadcast over the axes in front."""
    import torch

    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    inner = (high - low).clamp(min=0).prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1) for box in (a, b)]
    return inner / (areas[0] + areas[1] - inner).clamp(min=1e-12)


def detections(
    heat: torch.Tensor, distances: torch.Tensor, stride: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The surest centres of each canvas: cells whose heat is the largest of the 3x3 cells around.

    Args:
        heat: logits (N, classes, H, W).
        distances: (N, 4, H, W), see `decoded`.
        stride: pixels of a cell.

    Returns:
        Scores (N, k) in 0..1, descending; labels (N, k); boxes (N, k, 4).
    """
    import torch
    from torch.nn import functional

    peak = functional.max_pool2d(heat, 3, stride=1, padding=1) == heat
    scores = torch.where(peak, heat.sigmoid(), torch.zeros(()))
    n, _, height, width = heat.shape
    flat = scores.flatten(1)
    score, index = flat.topk(min(N_DETECTIONS, flat.shape[1]), dim=1)
    label, cell = index // (height * width), index % (height * width)
    at = cell[:, None].expand(-1, 4, -1)
    own = distances.flatten(2).gather(2, at).transpose(1, 2)
    boxes = decoded(own.reshape(-1, 4), (cell // width).flatten(), (cell % width).flatten(), stride)
    return score, label, boxes.reshape(n, -1, 4)


def matched(labels: torch.Tensor, boxes: torch.Tensor, targets: torch.Tensor, *, least_iou: float) -> list[bool]:
    """Which detections of one canvas are right, the surest first.

    A detection takes the object of its class that it overlaps most, of those not yet taken, if that is enough
    (Lin et al., 2014).

    Args:
        labels: (k,), in the order of descending scores.
        boxes: (k, 4).
        targets: (objects, 5).
        least_iou: what is enough.
    """
    overlap = iou(boxes[:, None], targets[None, :, 1:])
    overlap = overlap.masked_fill(labels[:, None] != targets[None, :, 0], 0.0)
    right = []
    for own in overlap:
        best = int(own.argmax()) if len(own) else 0
        hit = bool(len(own)) and float(own[best]) >= least_iou
        if hit:
            overlap[:, best] = 0.0
        right.append(hit)
    return right
