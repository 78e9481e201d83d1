"""The user's Python runs inside every command: it may print, and it may not end the program."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    Cli = Callable[..., Result]

TALKATIVE = '''"""A network that says what it does."""

from torch import nn

INPUT_SHAPE = (1, 1, 8, 8)
RECIPE = {"data": "digits", "epochs": 1}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        print("built")
        self.conv = nn.Conv2d(1, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 10)

    def forward(self, image):
        print("called")
        FORWARD
        return self.fc(self.bn(self.conv(image)).mean((2, 3)))


def build():
    return Net()
'''


@pytest.fixture
def write_net(tmp_path: Path) -> Callable[[str], Path]:
    """Write a model file with a statement in its forward."""

    def write(statement: str = "pass") -> Path:
        path = tmp_path / "net.py"
        path.write_text(TALKATIVE.replace("FORWARD", statement))
        return path

    return write


def test_standard_output_holds_json_and_nothing_else(cli: Cli, write_net: Callable[..., Path], tmp_path: Path) -> None:
    net, run, folder = write_net(), tmp_path / "run", tmp_path / "folded"
    model = folder / "model.onnx"
    for arguments in (
        ("train", net, "-o", run),
        ("fold-export", run, "-o", folder),
        ("inspect", run),
        ("verify", run, model),
        ("recalibrate", run, "-o", tmp_path / "again"),
        ("bench", model, "--against", "torch", "--source", run, "--budget", "0.2"),
    ):
        result = cli(*arguments, "--json", "-", "-q")
        assert result.exit_code == 0, result.output
        assert "called" in result.stderr
        json.loads(result.stdout)


IN_TRIAL = "raise SystemExit(0)"
IN_EXPORT = "import torch; torch.compiler.is_exporting() and exit(0)"
IN_TRAINING = "self.training and len(image) > 2 and exit(0)"


@pytest.mark.parametrize("statement", [IN_TRIAL, IN_EXPORT])
def test_an_exit_of_the_network_is_refused(
    refused: Callable[..., str], write_net: Callable[..., Path], statement: str
) -> None:
    assert "SystemExit" in refused("fold-export", write_net(statement), code=3)


def test_an_exit_in_training_is_refused(
    refused: Callable[..., str], write_net: Callable[..., Path], tmp_path: Path
) -> None:
    line = refused("train", write_net(IN_TRAINING), "-o", tmp_path / "run", code=3)
    assert "SystemExit" in line
    assert not (tmp_path / "run").exists()
