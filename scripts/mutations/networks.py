"""Small networks with a place for every kind of wrong fold, and what a wrong fold is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir
import torch
from calibration.networks import settle
from common.patterns import UNet
from onnx import numpy_helper
from torch import Tensor, nn

from bnfold.export import finish, plain_graph
from bnfold.folding import fold_model
from bnfold.records import InputSpec, SourceFacts
from bnfold.sources.types import TorchSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnfold.records import Ledger

__all__ = ["NETWORKS", "Subject", "copied", "parameter", "set_parameter", "subject_of"]


class BNNet(nn.Module):
    """A BatchNorm in front of a Linear, and one between a ReLU and a Linear."""

    def __init__(self, c: int = 64) -> None:
        super().__init__()
        self.bn1, self.fc1 = nn.BatchNorm1d(c), nn.Linear(c, c)
        self.bn2, self.fc2 = nn.BatchNorm1d(c), nn.Linear(c, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc2(self.bn2(torch.relu(self.fc1(self.bn1(x)))))
        return logits


class Residual(nn.Module):
    """A BatchNorm on the images in front of a padded convolution, then residual blocks; every second one grouped."""

    def __init__(self, c: int = 16, n_blocks: int = 2) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.stem = nn.Sequential(nn.Conv2d(3, c, 3, padding=1), nn.BatchNorm2d(c), nn.ReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(c, c, 3, padding=1), nn.BatchNorm2d(c), nn.ReLU(),
                nn.Conv2d(c, c, 3, padding=1, groups=4), nn.BatchNorm2d(c),
            )
            for _ in range(n_blocks)
        )  # fmt: skip
        self.head = nn.Linear(c, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(self.norm(x))
        for block in self.blocks:
            x = torch.relu(block(x) + x)
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class Separable(nn.Module):
    """Inverted residuals with depthwise convolutions and ReLU6 (MobileNetV2)."""

    def __init__(self, c: int = 16, n_blocks: int = 2) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, c, 3, 2, 1, bias=False), nn.BatchNorm2d(c), nn.ReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(c, 3 * c, 1, bias=False), nn.BatchNorm2d(3 * c), nn.ReLU6(),
                nn.Conv2d(3 * c, 3 * c, 3, padding=1, groups=3 * c, bias=False), nn.BatchNorm2d(3 * c), nn.ReLU6(),
                nn.Conv2d(3 * c, c, 1, bias=False), nn.BatchNorm2d(c),
            )
            for _ in range(n_blocks)
        )  # fmt: skip
        self.head = nn.Linear(c, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class Sequence(nn.Module):
    """Convolutions over time, the first without a ReLU, an LSTM, and two outputs of one shape."""

    def __init__(self, c: int = 16) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv1d(6, c, 3, padding=1), nn.BatchNorm1d(c))
        self.conv2 = nn.Sequential(nn.Conv1d(c, c, 3, padding=1), nn.BatchNorm1d(c), nn.ReLU())
        self.norm = nn.BatchNorm1d(c)
        self.lstm = nn.LSTM(c, c, batch_first=True, bidirectional=True)
        self.scores, self.trend = nn.Linear(2 * c, 5), nn.Linear(2 * c, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.norm(self.conv2(self.conv1(x))).transpose(1, 2)
        last = self.lstm(features)[0][:, -1]
        return self.scores(last), self.trend(last)


def _small_unet() -> nn.Module:
    return UNet(4)


# name: (network, shape of a row, names of the outputs)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], tuple[str, ...]]] = {
    "bnnet": (BNNet, (64,), ("y",)),
    "residual": (Residual, (3, 8, 8), ("y",)),
    "separable": (Separable, (3, 8, 8), ("y",)),
    "sequence": (Sequence, (6, 8), ("scores", "trend")),
    "unet": (_small_unet, (3, 8, 8), ("y",)),
}


@dataclass(frozen=True)
class Subject:
    """A network, its unfolded graph, and the right file with its ledger."""

    name: str
    source: TorchSource
    plain: onnx.ModelProto
    right: onnx.ModelProto
    ledger: Ledger

    def refold(self, plain: onnx.ModelProto) -> onnx.ModelProto:
        """The file that `fold-export` makes of another graph."""
        return _folded(plain)[0]

    def norms(self) -> list[tuple[str, frozenset[str]]]:
        """Each BatchNorm of the graph, in its order: its name, and the layers that hold what became of it."""
        return [(entry.name, frozenset({entry.name, *entry.into})) for entry in self.ledger.entries]


def subject_of(name: str, seed: int = 0) -> Subject:
    """The network with parameters as training leaves them: measured statistics, scales of both signs, shifts."""
    build, row, outputs = NETWORKS[name]
    torch.manual_seed(seed)
    module = build()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            with torch.no_grad():
                layer.weight[::5] *= -1
            nn.init.normal_(layer.bias, 0.0, 0.3)
    settle(module, torch.randn(64, *row) * 1.5 + 0.5)
    facts = SourceFacts(name, "", sum(p.numel() for p in module.parameters()))
    source = TorchSource(facts, module, (InputSpec("x", (None, *row), "float32"),), outputs)
    plain = ir.to_proto(plain_graph(source))
    return Subject(name, source, plain, *_folded(plain))


def _folded(plain: onnx.ModelProto) -> tuple[onnx.ModelProto, Ledger]:
    model = ir.from_proto(plain)
    ledger = fold_model(model)
    return finish(model), ledger


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model of its own, to be spoilt."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def parameter(model: onnx.ModelProto, name: str) -> np.ndarray:
    """A stored tensor in float64; whole numbers as they are."""
    array = next(numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name == name)
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def set_parameter(model: onnx.ModelProto, name: str, value: np.ndarray) -> None:
    """Store other numbers, in the tensor's own format."""
    for tensor in model.graph.initializer:
        if tensor.name == name:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            tensor.CopyFrom(numpy_helper.from_array(np.asarray(value).astype(dtype), name))
            return
    raise KeyError(name)
