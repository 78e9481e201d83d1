"""A small MobileNetV2: inverted residuals with depthwise convolutions, ReLU6, and linear bottlenecks.

Sandler et al., "MobileNetV2" (2018), table 1. The BatchNorm behind a bottleneck has no activation after it.
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
    "epochs": 20,
    "batch_size": 64,
    "optimizer": "adamw",
    "lr": 5e-3,
    "weight_decay": 0.05,
}

EXPECTED = {"accuracy": 0.97, "kept": 0}


def conv_bn(n_in: int, n_out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution without bias and its BatchNorm."""
    conv = nn.Conv2d(n_in, n_out, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(n_out)]


class InvertedResidual(nn.Module):
    """Widen (1x1), filter (3x3 depthwise), narrow (1x1): (N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""

    def __init__(self, n_in: int, n_out: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        n_wide = n_in * expansion
        self.conv = nn.Sequential(
            *conv_bn(n_in, n_wide, 1),
            nn.ReLU6(),
            *conv_bn(n_wide, n_wide, 3, stride=stride, groups=n_wide),
            nn.ReLU6(),
            *conv_bn(n_wide, n_out, 1),
        )
        self.residual = stride == 1 and n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        """The bottleneck's output, added to its input where both have one shape."""
        y: Tensor = self.conv(x)
        return x + y if self.residual else y


class MobileNet(nn.Module):
    """Input (N, 1, H, W), output (N, n_classes) logits."""

    def __init__(self, widths: tuple[int, ...] = (16, 24), n_blocks: int = 2, n_classes: int = 10) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        n_in = widths[0]
        for stage, width in enumerate(widths):
            for index in range(n_blocks):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(InvertedResidual(n_in, width, stride=stride, expansion=3))
                n_in = width
        self.features = nn.Sequential(
            *conv_bn(1, widths[0], 3), nn.ReLU6(), *blocks, *conv_bn(n_in, 2 * n_in, 1), nn.ReLU6()
        )
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * n_in, n_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of images."""
        logits: Tensor = self.head(self.features(x))
        return logits


def build() -> nn.Module:
    """The network, with fresh parameters."""
    return MobileNet()
