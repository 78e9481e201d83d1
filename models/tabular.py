"""A network for tables: a BatchNorm on the numbers, an embedding for each column of categories, linear layers with BN.

The arrangement of fastai's tabular learner (Howard and Gugger, 2020, section 5). On scikit-learn's breast cancer, whose
30 columns are ten measures three times over (mean, error, worst): the ten worst values are handed over as categories,
each as the quarter of the training rows that it lies in, the others as numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

INPUT_SHAPES = ((1, 20), (1, 10))
INPUT_DTYPES = ("float32", "int64")

RECIPE = {
    "task": "classification",
    "data": "breast-cancer",
    "threads": 1,
    "standardise": False,  # the BatchNorm on the numbers does it
    "epochs": 40,
    "batch_size": 32,
    "optimizer": "adamw",
    "lr": 3e-3,
    "weight_decay": 0.1,
}

EXPECTED = {"accuracy": 0.93, "kept": 0}


class Tabular(nn.Module):
    """Inputs (N, n_numbers) floats and (N, n_columns) integers below n_bins, output (N, n_classes) logits."""

    def __init__(
        self,
        *,
        n_numbers: int = 20,
        n_columns: int = 10,
        n_bins: int = 4,
        n_embedded: int = 3,
        n_hidden: int = 32,
        n_classes: int = 2,
    ) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(n_bins, n_embedded) for _ in range(n_columns))
        self.norm = nn.BatchNorm1d(n_numbers)
        self.layers = nn.Sequential(
            nn.Linear(n_numbers + n_columns * n_embedded, n_hidden),
            nn.BatchNorm1d(n_hidden),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(n_hidden, n_hidden),
            nn.BatchNorm1d(n_hidden),
            nn.ReLU(),
            nn.Linear(n_hidden, n_classes),
        )

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Logits of a batch of rows."""
        embedded = [embedding(categories[:, column]) for column, embedding in enumerate(self.embeddings)]
        logits: Tensor = self.layers(torch.cat([self.norm(numbers), *embedded], dim=1))
        return logits


def build() -> nn.Module:
    """The network, with fresh parameters."""
    return Tabular()
