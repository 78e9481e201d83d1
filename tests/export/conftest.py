"""One export of one small network, shared by the tests: PyTorch's exporter takes seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from bnfold.export import plain_graph
from bnfold.sources.torch_source import torch_source

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    import onnx
    import onnx_ir as ir

    from bnfold.sources import TorchSource

    Run = Callable[[onnx.ModelProto, npt.NDArray[np.float32]], dict[str, npt.NDArray[np.float32]]]


class Block(nn.Module):
    """A convolution without bias, BatchNorm, ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.bn = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(x)).relu()


class Net(nn.Module):
    """(N, 3, 8, 8) to every kind of output: computed, returned twice, passed through, without a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block())
        self.fc = nn.Linear(4 * 36, 2)

    def forward(self, image: torch.Tensor) -> dict[str, object]:
        logits = self.fc(self.blocks(image).flatten(1))
        return {"logits": logits, "again": (logits, None), "image": image, "table": torch.ones(2)}


def random_statistics(module: nn.Module) -> nn.Module:
    """Running statistics and affine parameters that are not 0 and 1."""
    generator = torch.Generator().manual_seed(3)
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            for tensor in (layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var):
                assert tensor is not None
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return module


@pytest.fixture(scope="session")
def source() -> TorchSource:
    torch.manual_seed(0)
    return torch_source(random_statistics(Net()), "net", shapes=[(1, 3, 8, 8)])


@pytest.fixture(scope="session")
def plain(source: TorchSource) -> ir.Model:
    """Shared: clone it before changing it."""
    return plain_graph(source)


@pytest.fixture(scope="session")
def image() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((5, 3, 8, 8)).astype(np.float32)


@pytest.fixture(scope="session")
def run() -> Run:
    """Run a model on ONNX Runtime, without its optimizations."""

    def call(proto: onnx.ModelProto, image: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_outputs()]
        return dict(zip(names, session.run(names, {session.get_inputs()[0].name: image}), strict=True))

    return call
