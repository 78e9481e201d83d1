"""A pre-activation ResNet: BatchNorm and ReLU in front of each convolution, so that nothing stands on the shortcut.

He et al., "Identity Mappings in Deep Residual Networks" (2016), figure 4e. The first BatchNorm of a block reads the sum
of all branches before it: no convolution in front of it belongs to it alone.
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
    "warmup": 0.2,
}

EXPECTED = {"accuracy": 0.965, "kept": 0}


class PreActBlock(nn.Module):
    """BatchNorm, ReLU, 3x3 convolution, twice: (N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(n_in)
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.act = nn.ReLU()
        self.projection = nn.Conv2d(n_in, n_out, 1, stride=stride, bias=False) if n_in != n_out else None

    def forward(self, x: Tensor) -> Tensor:
        """The stream and the branch added; a projection reads the activated stream, as in the authors' code."""
        active = self.act(self.bn1(x))
        shortcut = x if self.projection is None else self.projection(active)
        out: Tensor = self.conv2(self.act(self.bn2(self.conv1(active)))) + shortcut
        return out


class PreActResNet(nn.Module):
    """Input (N, 1, H, W), output (N, n_classes) logits."""

    def __init__(self, widths: tuple[int, ...] = (16, 32), n_blocks: int = 2, n_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, widths[0], 3, padding=1, bias=False)
        blocks: list[nn.Module] = []
        n_in = widths[0]
        for width in widths:
            for _ in range(n_blocks):
                blocks.append(PreActBlock(n_in, width, stride=2 if n_in != width else 1))
                n_in = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            nn.BatchNorm2d(n_in), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_in, n_classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of images."""
        logits: Tensor = self.head(self.blocks(self.stem(x)))
        return logits


def build() -> nn.Module:
    """The network, with fresh parameters."""
    return PreActResNet()
