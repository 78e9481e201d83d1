"""A small RepVGG in its training form: a 3x3 and a 1x1 convolution and an identity, a BatchNorm on each, and their sum.

Ding et al., "RepVGG: Making VGG-style ConvNets Great Again" (2021), figure 4. The file has no `reparameterize`: that a
block is one 3x3 convolution follows from its graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    "lr": 0.05,
    "momentum": 0.9,
    "weight_decay": 1e-3,
}

EXPECTED = {"accuracy": 0.96, "kept": 0}


class RepBlock(nn.Module):
    """Three branches and a ReLU: (N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""

    def __init__(self, n_in: int, n_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv3 = nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(n_out)
        self.conv1 = nn.Conv2d(n_in, n_out, 1, stride=stride, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.bn0 = nn.BatchNorm2d(n_in) if n_in == n_out and stride == 1 else None
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """The activated sum of the branches."""
        y = self.bn3(self.conv3(x)) + self.bn1(self.conv1(x))
        out: Tensor = self.act(y if self.bn0 is None else y + self.bn0(x))
        return out


class RepVGG(nn.Module):
    """Input (N, 1, H, W), output (N, n_classes) logits."""

    def __init__(self, widths: tuple[int, ...] = (16, 32), n_blocks: int = 2, n_classes: int = 10) -> None:
        super().__init__()
        blocks: list[nn.Module] = [RepBlock(1, widths[0])]
        n_in = widths[0]
        for width in widths:
            for _ in range(n_blocks):
                blocks.append(RepBlock(n_in, width, stride=2 if n_in != width else 1))
                n_in = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_in, n_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of images."""
        logits: Tensor = self.head(self.blocks(x))
        return logits


def build() -> nn.Module:
    """The network, with fresh parameters."""
    return RepVGG()
