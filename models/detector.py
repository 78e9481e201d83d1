"""A one-stage detector: a heat map of centres for each class, and the size and the place of the box at each centre.

Zhou et al., "Objects as Points" (2019), with two output maps at a quarter of the canvas's height and width. A digit's
centre lies in one cell; `boxes` holds there the distances from the middle of the cell to the left, top, right and
bottom edge, in cells, as in FCOS (Tian et al., 2019).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

INPUT_SHAPE = (1, 1, 32, 32)
OUTPUT_NAMES = ("heat_map", "boxes")

RECIPE = {
    "task": "detection",
    "data": "canvases",
    "threads": 1,
    "epochs": 20,
    "batch_size": 32,
    "optimizer": "adamw",
    "lr": 5e-3,
    "weight_decay": 0.05,
}

EXPECTED = {"ap50": 0.92, "kept": 0}


def conv_bn_relu(n_in: int, n_out: int, stride: int = 1) -> nn.Sequential:
    """A 3x3 convolution, its BatchNorm and ReLU: (N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()
    )


class Detector(nn.Module):
    """Input (N, 1, H, W), outputs (N, n_classes, H / 4, W / 4) logits and (N, 4, H / 4, W / 4) distances above 0."""

    def __init__(self, widths: tuple[int, int, int] = (12, 24, 48), n_classes: int = 10) -> None:
        super().__init__()
        first, second, third = widths
        self.features = nn.Sequential(
            conv_bn_relu(1, first),
            conv_bn_relu(first, second, stride=2),
            conv_bn_relu(second, second),
            conv_bn_relu(second, third, stride=2),
            conv_bn_relu(third, third),
        )
        centre = nn.Conv2d(third, n_classes, 1)
        # Most cells are no centre: start from a probability of 0.1, which keeps the first gradients small (section 4).
        centre.bias = nn.Parameter(torch.full((n_classes,), -2.19))
        self.heat = nn.Sequential(conv_bn_relu(third, third), centre)
        self.box = nn.Sequential(conv_bn_relu(third, second), nn.Conv2d(second, 4, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The logits of the centres and the distances to the edges of the boxes."""
        features = self.features(x)
        return self.heat(features), functional.softplus(self.box(features))


def build() -> nn.Module:
    """The network, with fresh parameters."""
    return Detector()
