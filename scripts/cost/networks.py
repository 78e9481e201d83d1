"""Deep narrow networks of any number of nodes, to time the fold on."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["BLOCKS", "network"]


class Residual(nn.Module):
    """conv-BN-ReLU-conv-BN, added, ReLU: 7 nodes (ResNet)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        out: torch.Tensor = torch.relu(x + self.bn2(self.conv2(y)))
        return out


class Preactivation(nn.Module):
    """BN-ReLU-conv-BN-ReLU-conv, added: 7 nodes (ResNetV2). Its offsets ride the residual stream."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(width), nn.Conv2d(width, width, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(torch.relu(self.bn1(x)))
        out: torch.Tensor = x + self.conv2(torch.relu(self.bn2(y)))
        return out


class Mixer(nn.Module):
    """x + conv(BN(x)), unpadded linear operators only, so that the stream itself takes every BN's units: 3 nodes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn, self.conv = nn.BatchNorm2d(width), nn.Conv2d(width, width, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.conv(self.bn(x))
        return out


class Gated(nn.Module):
    """Inverted residual with a gate and a GELU: 12 nodes (EfficientNet)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand, self.bn1 = nn.Conv2d(width, 2 * width, 1, bias=False), nn.BatchNorm2d(2 * width)
        self.mix = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width, bias=False)
        self.bn2, self.gate = nn.BatchNorm2d(2 * width), nn.Conv2d(2 * width, 2 * width, 1)
        self.project, self.bn3 = nn.Conv2d(2 * width, width, 1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.gelu(self.bn1(self.expand(x)))
        y = torch.relu(self.bn2(self.mix(y)))
        y = y * torch.sigmoid(self.gate(y.mean((2, 3), keepdim=True)))
        out: torch.Tensor = x + self.bn3(self.project(y))
        return out


BLOCKS = {
    "residual": (Residual,),
    "preactivation": (Preactivation,),
    "mixer": (Mixer,),
    "mixed": (Residual, Preactivation, Gated),
}


_N_NODES: dict[type[nn.Module], int] = {Residual: 7, Preactivation: 7, Mixer: 3, Gated: 12}


def network(kind: str, n_nodes: int, width: int = 16) -> nn.Module:
    """A network of about `n_nodes` nodes on x (N, width, 8, 8); its blocks take turns."""
    blocks: list[nn.Module] = []
    count = 0
    while count < n_nodes:
        block = BLOCKS[kind][len(blocks) % len(BLOCKS[kind])]
        blocks.append(block(width))
        count += _N_NODES[block]
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
