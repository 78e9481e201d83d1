"""A small U-Net: an encoder, a decoder with transposed convolutions, and what the encoder saw handed across.

Ronneberger et al., "U-Net" (2015), with padded convolutions and BatchNorm. Gives each pixel of a canvas of digits a
class: the background, or one of the ten digits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

INPUT_SHAPE = (1, 1, 32, 32)
OUTPUT_NAMES = ("class_logits",)

RECIPE = {
    "task": "segmentation",
    "data": "canvases",
    "threads": 1,
    "epochs": 12,
    "batch_size": 16,
    "optimizer": "adamw",
    "lr": 1e-2,
    "weight_decay": 0.05,
}

EXPECTED = {"miou": 0.75, "kept": 0}


def double_conv(n_in: int, n_out: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with BatchNorm and ReLU: (N, C_in, H, W) to (N, C_out, H, W)."""
    layers: list[nn.Module] = []
    for index in range(2):
        layers += [nn.Conv2d(n_in if index == 0 else n_out, n_out, 3, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(n_out), nn.ReLU()]
    return nn.Sequential(*layers)


class Up(nn.Module):
    """Twice the height and width by a transposed convolution with BatchNorm, then the encoder's channels beside it."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.up = nn.Sequential(
            nn.ConvTranspose2d(n_in, n_out, 2, stride=2, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()
        )
        self.conv = double_conv(2 * n_out, n_out)

    def forward(self, x: Tensor, across: Tensor) -> Tensor:
        """(N, C_in, H, W) and (N, C_out, 2 H, 2 W) to (N, C_out, 2 H, 2 W)."""
        out: Tensor = self.conv(torch.cat([self.up(x), across], dim=1))
        return out


class UNet(nn.Module):
    """Input (N, 1, H, W) of multiples of 4, output (N, n_classes, H, W) logits."""

    def __init__(self, widths: tuple[int, int, int] = (12, 24, 48), n_classes: int = 11) -> None:
        super().__init__()
        first, second, third = widths
        self.down1, self.down2, self.bottom = (
            double_conv(1, first),
            double_conv(first, second),
            double_conv(second, third),
        )
        self.pool = nn.MaxPool2d(2)
        self.up2, self.up1 = Up(third, second), Up(second, first)
        self.classify = nn.Conv2d(first, n_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of each class at each pixel."""
        fine = self.down1(x)
        coarse = self.down2(self.pool(fine))
        y = self.bottom(self.pool(coarse))
        logits: Tensor = self.classify(self.up1(self.up2(y, coarse), fine))
        return logits


def build() -> nn.Module:
    """The network, with fresh parameters."""
    return UNet()
