"""Files of a user's own: a network, its weights, its `.onnx`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest
from onnx import numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NETWORK = '''"""A user's own network."""

import torch
from torch import nn

INPUT_SHAPE = (1, 3, 8, 8)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 2)

    def forward(self, image):
        return self.fc(self.bn(self.conv(image)).mean((2, 3)))


def build():
    return Net()
'''

ONNX_TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 2, 4, 4] x) => (float[N, 3, 4, 4] y)
<float[3, 2, 1, 1] w = {1, 2, 3, 4, 5, 6}, float[3] scale = {1, 2, 3}, float[3] bias = {0, 1, 2},
 float[3] mean = {0, 0, 0}, float[3] var = {VARIANCE}>
{
    [conv] c = Conv (x, w)
    [norm] y = BatchNormalization ATTRIBUTES (c, scale, bias, mean, var)
}
"""


def onnx_model(*, variance: str = "1, 1, 1", attributes: str = "") -> onnx.ModelProto:
    """A 1x1 convolution and a BatchNorm: (N, 2, 4, 4) to (N, 3, 4, 4)."""
    proto = onnx.parser.parse_model(ONNX_TEXT.replace("VARIANCE", variance).replace("ATTRIBUTES", attributes))
    for tensor in proto.graph.initializer:  # the parser fills float_data, exporters raw_data
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    return proto


@pytest.fixture
def make_onnx() -> Callable[..., onnx.ModelProto]:
    """`onnx_model`, for the tests."""
    return onnx_model


@pytest.fixture
def onnx_path(tmp_path: Path) -> Path:
    """A sound `.onnx` file."""
    path = tmp_path / "net.onnx"
    onnx.save_model(onnx_model(), path)
    return path


@pytest.fixture
def net_file(tmp_path: Path) -> Path:
    """A sound model file."""
    path = tmp_path / "net.py"
    path.write_text(NETWORK)
    return path


@pytest.fixture
def write_py(tmp_path: Path) -> Callable[..., Path]:
    """Write a Python file; `from torch import nn` and `import torch` are there already."""

    def write(text: str, name: str = "mine.py") -> Path:
        path = tmp_path / name
        path.write_text(f"import torch\nfrom torch import nn\n\n{text}\n")
        return path

    return write
