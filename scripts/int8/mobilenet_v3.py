"""A small MobileNetV3: inverted residuals with HardSwish, and gates of squeeze-and-excite with HardSigmoid.

Howard et al., "Searching for MobileNetV3" (2019), figure 4: the gate stands behind the depthwise convolution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

INPUT_SHAPE = (1, 1, 28, 28)

RECIPE = {
    "task": "classification",
    "data": "digits",
    "threads": 1,
    "epochs": 4,
    "batch_size": 64,
    "optimizer": "adamw",
    "lr": 5e-3,
    "weight_decay": 0.05,
}


def conv_bn(n_in: int, n_out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution without bias and its BatchNorm."""
    conv = nn.Conv2d(n_in, n_out, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(n_out)]


class Gate(nn.Module):
    """Each channel times a number between 0 and 1 that follows from the means of all: (N, C, H, W) to the same."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(n, n // 4, 1), nn.ReLU(), nn.Conv2d(n // 4, n, 1), nn.Hardsigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """The gated channels."""
        y: Tensor = x * self.gate(x)
        return y


class InvertedResidual(nn.Module):
    """Widen (1x1), filter (3x3 depthwise), gate, narrow (1x1)."""

    def __init__(self, n_in: int, n_out: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        n_wide = n_in * expansion
        self.conv = nn.Sequential(
            *conv_bn(n_in, n_wide, 1),
            nn.Hardswish(),
            *conv_bn(n_wide, n_wide, 3, stride=stride, groups=n_wide),
            nn.Hardswish(),
            Gate(n_wide),
            *conv_bn(n_wide, n_out, 1),
        )
        self.residual = stride == 1 and n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        """The bottleneck's output, added to its input where both have one shape."""
        y: Tensor = self.conv(x)
        return x + y if self.residual else y


def build() -> nn.Module:
    """The network, with fresh parameters: input (N, 1, H, W), output (N, 10) logits."""
    blocks = [
        InvertedResidual(n_in, n_out, stride=stride, expansion=3)
        for n_in, n_out, stride in ((16, 16, 2), (16, 16, 1), (16, 24, 2), (24, 24, 1))
    ]
    return nn.Sequential(
        *conv_bn(1, 16, 3), nn.Hardswish(), *blocks, *conv_bn(24, 64, 1), nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
