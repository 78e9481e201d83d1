"""The network of the BatchNorm paper's first experiment: three hidden layers of 100 sigmoids, a BatchNorm in each.

Ioffe and Szegedy, "Batch Normalization" (2015), section 4.1: the BatchNorm stands between each linear layer and its
sigmoid, and weights start as small Gaussian numbers. Trained on the 8x8 UCI digits instead of MNIST.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

INPUT_SHAPE = (1, 64)

RECIPE = {
    "task": "classification",
    "data": "digits",
    "threads": 1,
    "epochs": 40,
    "batch_size": 60,  # the paper's
    "optimizer": "adamw",
    "lr": 3e-3,
    "weight_decay": 0.1,
}

EXPECTED = {"accuracy": 0.96, "kept": 0}


class MLP(nn.Module):
    """Input (N, 64) pixels, output (N, 10) logits."""

    def __init__(self, n_features: int = 64, n_hidden: int = 100, n_layers: int = 3, n_classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(n_layers):
            linear = nn.Linear(n_features if index == 0 else n_hidden, n_hidden)
            nn.init.normal_(linear.weight, std=0.1)
            layers += [linear, nn.BatchNorm1d(n_hidden), nn.Sigmoid()]
        self.hidden = nn.Sequential(*layers)
        self.fc = nn.Linear(n_hidden, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of flattened images."""
        logits: Tensor = self.fc(self.hidden(x))
        return logits


def build() -> nn.Module:
    """The network, with fresh parameters."""
    return MLP()
