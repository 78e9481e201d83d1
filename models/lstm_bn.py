"""Two LSTM layers with a BatchNorm on the path from each layer's input to its hidden state, none on the recurrence.

Laurent et al., "Batch Normalized Recurrent Neural Networks" (2015), section 4: normalising the recurrent path does not
help, the input's does. Each BatchNorm stands between two cells' memories: only the input weights of the LSTM behind it
can take it. The sequence is the digit row by row: 8 steps of 8 pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

INPUT_SHAPE = (1, 8, 8)

RECIPE = {
    "task": "classification",
    "data": "digits",
    "threads": 1,
    "standardise": False,  # the first BatchNorm does it, for each column of pixels
    "epochs": 30,
    "batch_size": 64,
    "optimizer": "adamw",
    "lr": 5e-3,
    "weight_decay": 0.05,
}

EXPECTED = {"accuracy": 0.96, "kept": 0}


class StepNorm(nn.Module):
    """BatchNorm of each feature: (N, steps, features), normalised over N and the steps."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(n_features)

    def forward(self, steps: Tensor) -> Tensor:
        """The same shape, normalised."""
        normal: Tensor = self.bn(steps.transpose(1, 2)).transpose(1, 2)
        return normal


class LSTMNet(nn.Module):
    """Input (N, steps, features), output (N, n_classes) logits, read from the last step."""

    def __init__(self, n_features: int = 8, n_hidden: int = 48, n_classes: int = 10) -> None:
        super().__init__()
        self.norm1 = StepNorm(n_features)
        self.lstm1 = nn.LSTM(n_features, n_hidden, batch_first=True)
        self.norm2 = StepNorm(n_hidden)
        self.lstm2 = nn.LSTM(n_hidden, n_hidden, batch_first=True)
        self.fc = nn.Linear(n_hidden, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of sequences."""
        hidden, _ = self.lstm1(self.norm1(x))
        hidden, _ = self.lstm2(self.norm2(hidden))
        logits: Tensor = self.fc(hidden[:, -1])
        return logits


def build() -> nn.Module:
    """The network, with fresh parameters."""
    return LSTMNet()
