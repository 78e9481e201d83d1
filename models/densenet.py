"""A small DenseNet-BC: in a block, each layer reads the outputs of all before it through a BatchNorm of its own.

Huang et al., "Densely Connected Convolutional Networks" (2017), section 3. The BatchNorms of a block read the same
channels and stand in front of ReLUs, each of which wants these channels in other units: most of them cannot vanish.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

INPUT_SHAPE = (1, 1, 8, 8)

RECIPE = {
    "task": "classification",
    "data": "digits",
    "threads": 1,
    "epochs": 15,
    "batch_size": 64,
    "optimizer": "sgd",
    "lr": 0.1,
    "momentum": 0.9,
    "weight_decay": 1e-3,
}

# Kept are the first BatchNorm of each of the six layers and that of the first transition. In the first block all four
# read channels that come from a ReLU, whose offset is 0, and stand in front of a ReLU themselves. In the second block
# one of four can have its way with the channels that all read: that of the head.

EXPECTED = {"accuracy": 0.98, "kept": 7}


class DenseLayer(nn.Module):
    """BatchNorm, ReLU, 1x1; BatchNorm, ReLU, 3x3: (N, C, H, W) to (N, C + growth, H, W)."""

    def __init__(self, n_in: int, growth: int) -> None:
        super().__init__()
        n_narrow = 2 * growth
        self.bn1 = nn.BatchNorm2d(n_in)
        self.conv1 = nn.Conv2d(n_in, n_narrow, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_narrow)
        self.conv2 = nn.Conv2d(n_narrow, growth, 3, padding=1, bias=False)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """The input's channels, and behind them those of this layer."""
        new = self.conv2(self.act(self.bn2(self.conv1(self.act(self.bn1(x))))))
        return torch.cat([x, new], dim=1)


class DenseNet(nn.Module):
    """Input (N, 1, H, W), output (N, n_classes) logits."""

    def __init__(self, n_stem: int = 16, growth: int = 8, n_layers: int = 3, n_classes: int = 10) -> None:
        super().__init__()
        n = n_stem + n_layers * growth
        n_half = n // 2
        self.stem = nn.Sequential(nn.Conv2d(1, n_stem, 3, padding=1, bias=False), nn.BatchNorm2d(n_stem), nn.ReLU())
        self.block1 = nn.Sequential(*(DenseLayer(n_stem + index * growth, growth) for index in range(n_layers)))
        self.transition = nn.Sequential(
            nn.BatchNorm2d(n), nn.ReLU(), nn.Conv2d(n, n_half, 1, bias=False), nn.AvgPool2d(2)
        )
        self.block2 = nn.Sequential(*(DenseLayer(n_half + index * growth, growth) for index in range(n_layers)))
        n = n_half + n_layers * growth
        self.head = nn.Sequential(
            nn.BatchNorm2d(n), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n, n_classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of images."""
        logits: Tensor = self.head(self.block2(self.transition(self.block1(self.stem(x)))))
        return logits


def build() -> nn.Module:
    """The network, with fresh parameters."""
    return DenseNet()
