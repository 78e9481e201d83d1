"""Two networks with BatchNorms of trained size, exported once: the plain graph, and a right fold of our own.

The folds here are written for these two networks, so that the comparison is tested without the fold core.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from bnfold.records import InputSpec, Verdict
from bnfold.verification import TorchReference, verify_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Parameters = dict[str, np.ndarray]


class ConvNet(nn.Module):
    """Conv-BN-ReLU twice, a residual, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)) + x)
        return self.head(x.mean((2, 3)))


class BNNet(nn.Module):
    """A BatchNorm in front of a Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.fc, self.head = nn.BatchNorm1d(24), nn.Linear(24, 32), nn.Linear(32, 5)

    def forward(self, x):
        return self.head(torch.relu(self.fc(self.bn(x))))


@dataclass(frozen=True)
class Case:
    """A network with its plain graph, and what a fold needs to know: (linear, BatchNorm, BatchNorm is in front)."""

    module: nn.Module
    row: tuple[int, ...]
    pairs: tuple[tuple[str, str, bool], ...]
    plain: onnx.ModelProto
    without_norms: onnx.ModelProto
    reference: TorchReference
    folder: Path = field(repr=False)

    def parameters(self) -> Parameters:
        """The module's parameters and buffers, in float64."""
        return {name: value.double().numpy() for name, value in self.module.state_dict().items()}

    def folded(self, parameters: Parameters | None = None) -> Parameters:
        """The parameters of the graph without BatchNorms, in float64."""
        state = parameters or self.parameters()
        new = {name: value.copy() for name, value in state.items()}
        for linear, norm, in_front in self.pairs:
            eps = state.get(f"{norm}.eps", np.float64(1e-5))
            s = state[f"{norm}.weight"] / np.sqrt(state[f"{norm}.running_var"] + eps)
            t = state[f"{norm}.bias"] - s * state[f"{norm}.running_mean"]
            weight, bias = f"{linear}.weight", f"{linear}.bias"
            if in_front:
                new[bias] = state[bias] + state[weight] @ t
                new[weight] = state[weight] * s
            else:
                new[bias] = state[bias] * s + t
                new[weight] = state[weight] * s.reshape(-1, *(1,) * (state[weight].ndim - 1))
        return new

    def file(self, parameters: Parameters, edit: Callable[[onnx.ModelProto], None] | None = None) -> Path:
        """The graph without BatchNorms, with these parameters rounded to float32, as a file."""
        model = copy.deepcopy(self.without_norms)
        for tensor in model.graph.initializer:
            if tensor.name in parameters:
                tensor.CopyFrom(numpy_helper.from_array(parameters[tensor.name].astype(np.float32), tensor.name))
        if edit is not None:
            edit(model)
        path = self.folder / "candidate.onnx"
        onnx.save(model, path)
        return path

    def verify(self, file: Path, **options) -> Verdict:
        """The verdict on a file, at batches 1, 2, 3."""
        options = {"inputs": (InputSpec("x", (None, *self.row), "float32"),), "threads": 1} | options
        return verify_file(file, self.reference, **options)


def export(module: nn.Module, row: tuple[int, ...]) -> onnx.ModelProto:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        program = torch.onnx.export(
            module.eval(), (torch.randn(2, *row),), dynamo=True, optimize=False, verbose=False,
            input_names=["x"], output_names=["y"], dynamic_shapes=({0: torch.export.Dim("batch")},),
        )  # fmt: skip
    return program.model_proto


def _case(module: nn.Module, row, pairs, folder: Path) -> Case:
    torch.manual_seed(7)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.momentum = None
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0.0, 0.3)
    with torch.no_grad():
        module.train()(torch.randn(64, *row))
    module.eval()
    plain = export(module, row)
    bare = copy.deepcopy(module)
    for _, norm, _ in pairs:
        setattr(bare, norm, nn.Identity())
    reference = TorchReference(module, ["x"], ["y"], plain)
    return Case(module, row, pairs, plain, export(bare, row), reference, folder)


@pytest.fixture(scope="session")
def cases(tmp_path_factory) -> dict[str, Case]:
    """The networks by name."""
    torch.set_num_threads(1)
    after = (("conv1", "bn1", False), ("conv2", "bn2", False))
    return {
        "convnet": _case(ConvNet(), (3, 10, 10), after, tmp_path_factory.mktemp("convnet")),
        "bnnet": _case(BNNet(), (24,), (("fc", "bn", True),), tmp_path_factory.mktemp("bnnet")),
    }


@pytest.fixture(params=["convnet", "bnnet"])
def case(request, cases) -> Case:
    """Each network."""
    return cases[request.param]
