"""BNNet: a BatchNorm in front of a Linear, the smallest network whose BatchNorm no Conv-BN pass can fold.

Trained on the 8x8 UCI digits, enlarged to 16x32 and flattened to 512 pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

INPUT_SHAPE = (1, 512)

RECIPE = {
    "task": "classification",
    "data": "digits",
    "threads": 1,
    "image_size": [16, 32],
    # The BatchNorm standardises each pixel by itself. Pixels stay in 0..1, so that one which is always black has
    # mean 0: shifted, its mean over its deviation would be 300, and float32 would lose eight bits to that offset.
    "standardise": False,
    "epochs": 40,
    "batch_size": 64,
    "optimizer": "adamw",
    "lr": 3e-3,
    "weight_decay": 1.0,
    "warmup": 0.1,
}

EXPECTED = {"accuracy": 0.95, "kept": 0}


class BNNet(nn.Module):
    """Input (N, 512), output (N, 10) logits."""

    def __init__(self, n_features: int = 512, n_classes: int = 10) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(n_features)
        self.fc = nn.Linear(n_features, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of flattened images."""
        logits: Tensor = self.fc(self.bn(x))
        return logits


def build() -> nn.Module:
    """The network, with fresh parameters."""
    return BNNet()
