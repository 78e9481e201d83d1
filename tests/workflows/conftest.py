"""What the command line has to say of bad input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result


@pytest.fixture(scope="session")
def convnet() -> Callable[[int], nn.Module]:
    """Make a network of images of three channels, whose statistics are those of square images of a side."""

    def make(side: int) -> nn.Module:
        torch.manual_seed(3)
        module = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 5, 3),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        module.train()(torch.randn(16, 3, side, side))
        return module.eval()

    return make


@pytest.fixture
def refused(cli: Callable[..., Result], tmp_path: Path) -> Callable[..., str]:
    """Run a command that must end with a code, one `error:` line and nothing in the output folder; give the line."""

    def run(*arguments: object, code: int, output: Path | None = None) -> str:
        folder = tmp_path / "output" if output is None else output
        before = sorted(folder.rglob("*")) if folder.is_dir() else folder.exists()
        result = cli(*arguments, "-o", folder) if arguments[0] == "fold-export" else cli(*arguments)
        assert result.exit_code == code, result.output
        lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, result.stderr
        assert "Traceback" not in result.output
        assert result.stdout == ""
        assert (sorted(folder.rglob("*")) if folder.is_dir() else folder.exists()) == before
        return lines[0]

    return run
