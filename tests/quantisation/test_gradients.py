"""Sensitivities from gradients: they are the derivatives' squares, in the units of the folded graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bnfold.quantisation.gradients import in_folded_units, squared_gradients
from bnfold.quantisation.prepare import prepared
from bnfold.quantisation.samples import split_samples
from bnfold.quantisation.sensitivity import channels_of, sensitivities
from bnfold.records import InputSpec, SourceFacts
from bnfold.sources import TorchSource
from bnfold.workflows.candidates import sensitivities_of
from bnfold.workflows.conversion import Conversion, convert
from bnfold.workflows.stopwatch import Stopwatch

SHAPE = (2, 6, 6)


class Net(nn.Module):
    """Conv, BatchNorm, an activation, a pre-activated residual, and a head of one output."""

    def __init__(self, n_outputs: int = 1) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.pre, self.branch = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, n_outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn(self.conv(x))
        y = y + self.branch(torch.relu(self.pre(y)))
        out: torch.Tensor = self.fc(y.mean((2, 3)))
        return out


def converted(module: nn.Module) -> tuple[TorchSource, Conversion]:
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, 0.4, 0.4)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.3)  # type: ignore[union-attr]
            norm.running_var.uniform_(0.2, 3)  # type: ignore[union-attr]
            norm.weight.data.uniform_(0.3, 2)
    specs = (InputSpec("x", (None, *SHAPE), "float32"),)
    source = TorchSource(SourceFacts("net", "", 1), module.eval(), specs, ("y",))
    return source, convert(source, Stopwatch(lambda _: None), opset=None, static_batch=None, provider="cpu")


def rows(n: int = 12) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, *SHAPE)).astype(np.float32)


def numeric(graph: Any, name: str, channel: int, x: np.ndarray) -> float:
    """The mean square over positions of dy / dv, by moving each element of a channel of the folded graph."""
    import onnx

    from bnfold.graph.float64 import Float64Graph

    tail = onnx.ModelProto()
    tail.CopyFrom(graph)
    tail.graph.output.append(onnx.ValueInfoProto(name=name))
    value = Float64Graph(tail).evaluate({"x": x})[name]
    producer = next(k for k, node in enumerate(tail.graph.node) if name in node.output)
    del tail.graph.node[producer]
    tail.graph.output.pop()
    tail.graph.input.append(onnx.ValueInfoProto(name=name))
    cut = Float64Graph(tail)
    found = []
    for row in range(value.shape[2]):
        for column in range(value.shape[3]):
            ends = []
            for step in (1e-5, -1e-5):
                moved = value.copy()
                moved[0, channel, row, column] += step
                ends.append(cut.evaluate({"x": x, name: moved})["y"])
            found.append(((ends[0] - ends[1]) / 2e-5).item() ** 2)
    return float(np.mean(found))


def test_they_are_the_squares_of_the_derivatives_of_the_folded_graph() -> None:
    source, conversion = converted(Net())
    assert conversion.program is not None
    assert conversion.ledger.certificate is not None
    assert conversion.ledger.kept == 0
    x = rows(1)
    found = in_folded_units(
        squared_gradients(conversion.program, {"x": x}, source.inputs), conversion.ledger.certificate
    )
    convs = [node.output[0] for node in conversion.folded.graph.node if node.op_type == "Conv"]
    known = [name for name in convs if name in found]
    assert known
    for name in known:
        expected = [numeric(conversion.folded, name, channel, x) for channel in range(4)]
        np.testing.assert_allclose(found[name], expected, rtol=1e-3)


def test_random_signs_average_over_several_outputs() -> None:
    module = nn.Sequential(nn.Conv2d(2, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 7))
    source, conversion = converted(module)
    assert conversion.program is not None
    found = squared_gradients(conversion.program, {"x": rows(400)}, source.inputs)
    weight = module[3].weight.detach().numpy()  # type: ignore[union-attr]
    (name,) = (name for name in found if name.startswith("conv"))
    np.testing.assert_allclose(found[name] * 36**2, (weight.astype(float) ** 2).sum(axis=0), rtol=0.25)


def test_what_is_measured_takes_the_place_of_what_is_propagated() -> None:
    _, conversion = converted(Net())
    graph = prepared(conversion.folded, where="net").graph
    conv = next(node for node in graph if node.op_type == "Conv")
    y = conv.outputs[0]
    before = sensitivities(graph, {})
    after = sensitivities(graph, {}, {str(y.name): np.full(channels_of(y), 1e6)})
    np.testing.assert_array_equal(after[str(y.name)], np.full(4, 1e6))
    x = str(conv.inputs[0].name)  # type: ignore[union-attr]
    assert (after[x] > 1e3 * before[x]).all()


@pytest.mark.parametrize("precision", ["int8", "fp16"])
def test_a_file_of_lower_precision_takes_them_where_the_source_is_pytorch(precision: Any) -> None:
    source, conversion = converted(Net(3))
    samples = split_samples({"x": rows()}, seed=0, where="rows")
    found = sensitivities_of(conversion, source, samples, precision)
    assert bool(found) is (precision == "int8")
    again = sensitivities_of(conversion, source, samples, precision)
    assert all((again[name] == found[name]).all() for name in found)


def test_a_network_without_derivatives_has_none() -> None:
    class Largest(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1).argmax(1)

    source, conversion = converted(Largest())
    samples = split_samples({"x": rows()}, seed=0, where="rows")
    assert sensitivities_of(conversion, source, samples, "int8") == {}
