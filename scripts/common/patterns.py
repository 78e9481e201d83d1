"""Small networks of the shapes in which BatchNorm occurs outside image classifiers."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PATTERNS"]


class PatchEncoder(nn.Module):
    """Post-norm Transformer encoder on patches of a series (N, T, C), BatchNorm over channels (PatchTST)."""

    def __init__(self, c: int = 32, heads: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.embed = nn.Linear(16, c)
        self.position = nn.Parameter(torch.randn(12, c) * 0.02)
        self.qkv = nn.ModuleList(nn.Linear(c, 3 * c) for _ in range(layers))
        self.out = nn.ModuleList(nn.Linear(c, c) for _ in range(layers))
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.Linear(c, 2 * c), nn.GELU(), nn.Linear(2 * c, c)) for _ in range(layers)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(c) for _ in range(2 * layers))
        self.head = nn.Linear(12 * c, 8)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x) + self.position
        for i, (qkv, out, mlp) in enumerate(zip(self.qkv, self.out, self.mlp, strict=True)):
            q, k, v = (t.unflatten(2, (self.heads, -1)).transpose(1, 2) for t in qkv(x).chunk(3, dim=2))
            weights = torch.softmax(q @ k.transpose(2, 3) / q.shape[-1] ** 0.5, dim=3)
            x = x + out((weights @ v).transpose(1, 2).flatten(2))
            x = self.norms[2 * i](x.transpose(1, 2)).transpose(1, 2)
            x = x + mlp(x)
            x = self.norms[2 * i + 1](x.transpose(1, 2)).transpose(1, 2)
        logits: Tensor = self.head(x.flatten(1))
        return logits


class BatchNormLSTM(nn.Module):
    """A BatchNorm on the features of a sequence (N, T, C) in front of an LSTM."""

    def __init__(self, c: int = 16, hidden: int = 24) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(c)
        self.lstm = nn.LSTM(c, hidden, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(2 * hidden, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x.transpose(1, 2)).transpose(1, 2)
        logits: Tensor = self.head(self.lstm(x)[0][:, -1])
        return logits


class Tabular(nn.Module):
    """Embeddings joined with normalised numbers, then ReLU-BN-Dropout-Linear blocks (fastai's tabular model)."""

    def __init__(self, sizes: tuple[int, ...] = (10, 20, 30), n_numbers: int = 6) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(n, 8) for n in sizes)
        self.norm = nn.BatchNorm1d(n_numbers)
        widths = [8 * len(sizes) + n_numbers, 64, 32]
        blocks: list[nn.Module] = []
        for a, b in pairwise(widths):
            blocks += [nn.Linear(a, b), nn.ReLU(), nn.BatchNorm1d(b), nn.Dropout(0.1)]
        self.layers = nn.Sequential(*blocks, nn.Linear(widths[-1], 2))

    def forward(self, codes: Tensor, numbers: Tensor) -> Tensor:
        parts = [table(codes[:, i]) for i, table in enumerate(self.embeddings)]
        logits: Tensor = self.layers(torch.cat([*parts, self.norm(numbers)], dim=1))
        return logits


class UNet(nn.Module):
    """Two levels down and up with skip connections joined by Concat."""

    def __init__(self, c: int = 8) -> None:
        super().__init__()

        def block(a: int, b: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(),
                nn.Conv2d(b, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(),
            )  # fmt: skip

        self.down1, self.down2, self.bottom = block(3, c), block(c, 2 * c), block(2 * c, 4 * c)
        self.rise2, self.rise1 = nn.ConvTranspose2d(4 * c, 2 * c, 2, 2), nn.ConvTranspose2d(2 * c, c, 2, 2)
        self.up2, self.up1 = block(4 * c, 2 * c), block(2 * c, c)
        self.pool, self.head = nn.MaxPool2d(2), nn.Conv2d(c, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(self.pool(a))
        x = self.up2(torch.cat([self.rise2(self.bottom(self.pool(b))), b], dim=1))
        masks: Tensor = self.head(self.up1(torch.cat([self.rise1(x), a], dim=1)))
        return masks


def dcgan_generator(z: int = 32, c: int = 16) -> nn.Module:
    """(N, z, 1, 1) -> (N, 3, 32, 32): transposed convolutions, each followed by a BatchNorm and a ReLU."""
    layers: list[nn.Module] = [nn.ConvTranspose2d(z, 4 * c, 4, 1, 0, bias=False), nn.BatchNorm2d(4 * c), nn.ReLU()]
    for a, b in ((4 * c, 2 * c), (2 * c, c)):
        layers += [nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(c, 3, 4, 2, 1, bias=False), nn.Tanh())


def iresnet_head(c: int = 32) -> nn.Module:
    """A convolution, then BN, Dropout, Flatten, Linear, BN (the embedding head of face recognition)."""
    return nn.Sequential(
        nn.Conv2d(3, c, 3, 2, 1), nn.PReLU(c),
        nn.BatchNorm2d(c), nn.Dropout(0.4), nn.Flatten(), nn.Linear(c * 64, 64), nn.BatchNorm1d(64),
    )  # fmt: skip


def bnnet() -> nn.Module:
    """BatchNorm1d(512) -> Linear(512, 10)."""
    return nn.Sequential(nn.BatchNorm1d(512), nn.Linear(512, 10))


def _tabular_inputs() -> tuple[Tensor, ...]:
    return torch.stack([torch.randint(0, n, (4,)) for n in (10, 20, 30)], dim=1), torch.randn(4, 6)


# name: (network, example inputs of batch 4)
PATTERNS: dict[str, tuple[Callable[[], nn.Module], Callable[[], tuple[Tensor, ...]]]] = {
    "bnnet": (bnnet, lambda: (torch.randn(4, 512),)),
    "patch_encoder": (PatchEncoder, lambda: (torch.randn(4, 12, 16),)),
    "iresnet_head": (iresnet_head, lambda: (torch.randn(4, 3, 16, 16),)),
    "bn_lstm": (BatchNormLSTM, lambda: (torch.randn(4, 10, 16),)),
    "tabular": (Tabular, _tabular_inputs),
    "dcgan_generator": (dcgan_generator, lambda: (torch.randn(4, 32, 1, 1),)),
    "unet": (UNet, lambda: (torch.randn(4, 3, 32, 32),)),
}
