"""A temporal convolutional network: causal dilated 1D convolutions with BatchNorm, on the digits pixel by pixel.

Bai et al., "An Empirical Evaluation of Generic Convolutional and Recurrent Networks" (2018), figure 1, with BatchNorm
in place of its weight normalisation. The sequence is the image row by row: 64 steps of one pixel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

INPUT_SHAPE = (1, 1, 64)

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

EXPECTED = {"accuracy": 0.95, "kept": 0}


class CausalConv(nn.Module):
    """A convolution that sees no later step, and its BatchNorm: (N, C_in, T) to (N, C_out, T)."""

    def __init__(self, n_in: int, n_out: int, *, kernel: int, dilation: int) -> None:
        super().__init__()
        self.n_before = (kernel - 1) * dilation
        self.conv = nn.Conv1d(n_in, n_out, kernel, dilation=dilation, bias=False)
        self.bn = nn.BatchNorm1d(n_out)

    def forward(self, x: Tensor) -> Tensor:
        """Each step from itself and the steps before it; zeros stand in front of the first."""
        y: Tensor = self.bn(self.conv(functional.pad(x, (self.n_before, 0))))
        return y


class TemporalBlock(nn.Module):
    """Two causal convolutions and a shortcut: (N, C_in, T) to (N, C_out, T)."""

    def __init__(self, n_in: int, n_out: int, *, kernel: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = CausalConv(n_in, n_out, kernel=kernel, dilation=dilation)
        self.conv2 = CausalConv(n_out, n_out, kernel=kernel, dilation=dilation)
        self.shortcut = nn.Conv1d(n_in, n_out, 1) if n_in != n_out else nn.Identity()
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """The residual sum behind its activation."""
        y = self.act(self.conv2(self.act(self.conv1(x))))
        out: Tensor = self.act(y + self.shortcut(x))
        return out


class TCN(nn.Module):
    """Input (N, 1, 64), output (N, n_classes) logits, read from the last step."""

    def __init__(self, width: int = 24, n_blocks: int = 4, kernel: int = 3, n_classes: int = 10) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                TemporalBlock(1 if index == 0 else width, width, kernel=kernel, dilation=2**index)
                for index in range(n_blocks)
            )
        )
        self.fc = nn.Linear(width, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of sequences."""
        logits: Tensor = self.fc(self.blocks(x)[:, :, -1])
        return logits


def build() -> nn.Module:
    """The network, with fresh parameters."""
    return TCN()
