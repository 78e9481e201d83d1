"""Small networks as files, and what the command line has to say of bad ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

CONV_BN_RELU = """
<ir_version: 9, opset_import: ["" : 17]>
net (float[N, 2, 6, 6] x) => (float[N, 4, 6, 6] y) {
  c = Conv <pads = [1, 1, 1, 1]> (x, weight)
  b = BatchNormalization <epsilon = 1e-05> (c, gamma, beta, mean, var)
  y = Relu (b)
}
"""


def conv_bn_relu() -> onnx.ModelProto:
    """A network with one BatchNorm behind a padded convolution, and statistics that are not the trivial ones."""
    random = np.random.default_rng(7)
    model = onnx.parser.parse_model(CONV_BN_RELU)
    parameters = {
        "weight": random.normal(size=(4, 2, 3, 3)),
        "gamma": random.uniform(0.5, 2, size=4),
        "beta": random.normal(size=4),
        "mean": random.normal(size=4),
        "var": random.uniform(0.5, 2, size=4),
    }
    for name, value in parameters.items():
        model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    return model


@pytest.fixture
def make_network() -> Callable[[], onnx.ModelProto]:
    """Make the network anew, to be spoilt."""
    return conv_bn_relu


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """The network as a file."""
    path = tmp_path / "network.onnx"
    onnx.save(conv_bn_relu(), path)
    return path


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
