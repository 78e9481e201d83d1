"""A short training run and a model file of a user's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bnfold.workflows.train_model import train

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bnfold.records import TrainReport

MODEL_FILE = '''"""A user's own network."""

import torch
from torch import nn

INPUT_SHAPE = (1, 1, 8, 8)
RECIPE = {"data": "digits", "epochs": 2, "threads": 1}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(144, N_CLASSES)

    def forward(self, pixels):
        FORWARD
        return self.fc(self.drop(self.bn(self.conv(pixels)).flatten(1)))


def build():
    return Net()
'''


@pytest.fixture
def model_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a user's model file into `tmp_path`; its `forward` begins with a statement of the test."""

    def write(*, forward: str = "pass", n_classes: int = 10) -> Path:
        path = tmp_path / "mine.py"
        path.write_text(MODEL_FILE.replace("FORWARD", forward).replace("N_CLASSES", str(n_classes)), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> TrainReport:
    """BNNet after three epochs; `report.run` is its folder, which no test may change."""
    return train("bnnet", tmp_path_factory.mktemp("runs") / "bnnet", epochs=3)
