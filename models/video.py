"""A small 3D convolutional network on videos: which way does the digit move?

Tran et al., "Learning Spatiotemporal Features with 3D Convolutional Networks" (2015): 3x3x3 convolutions over time,
height and width, here with strides in place of pooling. No single frame tells the direction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

INPUT_SHAPE = (1, 1, 6, 16, 16)

RECIPE = {
    "task": "classification",
    "data": "moving-digits",
    "threads": 1,
    "epochs": 8,
    "batch_size": 50,
    "optimizer": "adamw",
    "lr": 5e-3,
    "weight_decay": 0.05,
}

EXPECTED = {"accuracy": 0.98, "kept": 0}


def conv_bn_relu(n_in: int, n_out: int, stride: tuple[int, int, int]) -> nn.Sequential:
    """(N, C_in, T, H, W) to (N, C_out, ...): a 3x3x3 convolution, its BatchNorm and ReLU."""
    return nn.Sequential(
        nn.Conv3d(n_in, n_out, 3, stride=stride, padding=1, bias=False), nn.BatchNorm3d(n_out), nn.ReLU()
    )


class VideoNet(nn.Module):
    """Input (N, 1, T, H, W), output (N, n_classes) logits."""

    def __init__(self, widths: tuple[int, int, int] = (8, 16, 32), n_classes: int = 8) -> None:
        super().__init__()
        first, second, third = widths
        self.features = nn.Sequential(
            conv_bn_relu(1, first, (1, 2, 2)),
            conv_bn_relu(first, second, (1, 2, 2)),
            conv_bn_relu(second, third, (2, 1, 1)),
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(third, n_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of videos."""
        logits: Tensor = self.head(self.features(x))
        return logits


def build() -> nn.Module:
    """The network, with fresh parameters."""
    return VideoNet()
