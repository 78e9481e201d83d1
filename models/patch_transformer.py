"""A transformer on patches with BatchNorm where others have LayerNorm, between two transposes.

The arrangement of PatchTST (Nie et al., 2023, appendix A.1.4), whose encoder normalises each feature over the batch and
the patches; here in front of attention and of the perceptron (pre-norm), on 2x2 patches of an 8x8 image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

INPUT_SHAPE = (1, 1, 8, 8)

RECIPE = {
    "task": "classification",
    "data": "digits",
    "threads": 1,
    "epochs": 30,
    "batch_size": 64,
    "optimizer": "adamw",
    "lr": 3e-3,
    "weight_decay": 0.1,
    "warmup": 0.2,
}

EXPECTED = {"accuracy": 0.95, "kept": 0}


class TokenNorm(nn.Module):
    """BatchNorm of each feature: (N, tokens, features), normalised over N and the tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """The same shape, normalised."""
        normal: Tensor = self.bn(tokens.transpose(1, 2)).transpose(1, 2)
        return normal


class Attention(nn.Module):
    """Self-attention of several heads: (N, tokens, features) to the same shape."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """What each token takes from all."""
        q, k, v = (x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for x in self.qkv(tokens).chunk(3, dim=-1))
        mixed = functional.scaled_dot_product_attention(q, k, v)
        result: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return result


class Layer(nn.Module):
    """Attention and a perceptron, each on a residual branch behind a BatchNorm."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.norm1 = TokenNorm(width)
        self.attention = Attention(width, n_heads)
        self.norm2 = TokenNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """The tokens, with what both branches add."""
        tokens = tokens + self.attention(self.norm1(tokens))
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out


class PatchTransformer(nn.Module):
    """Input (N, 1, 8, 8), output (N, n_classes) logits."""

    def __init__(self, width: int = 32, n_layers: int = 2, n_heads: int = 4, n_classes: int = 10) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 2, stride=2)
        self.position = nn.Parameter(0.02 * torch.randn(1, 16, width))
        self.layers = nn.Sequential(*(Layer(width, n_heads) for _ in range(n_layers)))
        self.norm = TokenNorm(width)
        self.fc = nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of images."""
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.position
        logits: Tensor = self.fc(self.norm(self.layers(tokens)).mean(dim=1))
        return logits


def build() -> nn.Module:
    """The network, with fresh parameters."""
    return PatchTransformer()
