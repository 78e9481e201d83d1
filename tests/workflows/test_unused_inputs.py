"""Inputs that no output depends on: warned of, and left out on demand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest

from bnfold.errors import InputRefused
from bnfold.graph.unread import unread_inputs
from bnfold.workflows.compare import verify
from bnfold.workflows.fold_export import fold_export

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """
<ir_version: 9, opset_import: ["" : 17]>
net (float[N, 2, 4] x, float[N, 3] unused, float[N, 2, 4] dead) => (float[N, 2, 4] y)
<float[2] s = {2, 3}, float[2] b = {1, 2}, float[2] m = {0, 1}, float[2] v = {1, 2}, float[2, 2, 1] w = {1, 2, 3, 4}>
{
    nobody = Relu (dead)
    c = Conv (x, w)
    y = BatchNormalization (c, s, b, m, v)
}
"""
NETWORK = """
from torch import nn

INPUT_SHAPES = ((1, 2, 4), (1, 3))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = nn.Sequential(nn.Conv1d(2, 2, 1), nn.BatchNorm1d(2))

    def forward(self, x, unused):
        return self.bn(x)


def build():
    return Net()
"""


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(onnx.parser.parse_model(TEXT), path)
    return path


def inputs_of(folder: Path) -> list[str]:
    return [value.name for value in onnx.load(folder / "model.onnx").graph.input]


def test_unread_inputs_are_those_without_a_path_to_an_output() -> None:
    assert unread_inputs(onnx.parser.parse_model(TEXT)) == ("unused", "dead")


def test_what_a_subgraph_reads_is_read() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 17]> g (bool c, float[2] x, float[2] z) => (float[2] y) '
        "{ y = If (c) <then_branch = t () => (float[2] a) { a = Relu (x) }, "
        "else_branch = e () => (float[2] b) { b = Neg (x) }> }"
    )
    assert unread_inputs(model) == ("z",)


def test_they_stay_with_a_warning(network: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    report = fold_export(network, tmp_path / "out", threads=1)
    assert report.passed
    assert inputs_of(tmp_path / "out") == ["x", "unused", "dead"]
    assert "no output depends on input unused, dead; --drop-unused-inputs" in caplog.text


def test_they_leave_on_demand_and_the_file_is_compared_without(network: Path, tmp_path: Path) -> None:
    report = fold_export(network, tmp_path / "out", threads=1, drop_unused_inputs=True)
    assert report.passed, report.verify.failure
    assert report.verify.n_compared > 0
    assert inputs_of(tmp_path / "out") == ["x"]
    assert verify(network, tmp_path / "out" / "model.onnx", threads=1).passed


def test_an_argument_of_forward_leaves(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NETWORK)
    report = fold_export(tmp_path / "net.py", tmp_path / "out", threads=1, drop_unused_inputs=True)
    assert report.passed, report.verify.failure
    assert inputs_of(tmp_path / "out") == ["x"]


def test_a_file_may_not_do_without_an_input_that_is_read(network: Path, tmp_path: Path) -> None:
    model = onnx.load(network)
    (dead,) = [value for value in model.graph.input if value.name == "dead"]
    model.graph.input.remove(dead)
    model.graph.node[0].input[0] = "x"
    onnx.save(model, tmp_path / "less.onnx")
    read = onnx.load(network)
    read.graph.output.append(onnx.helper.make_tensor_value_info("nobody", 1, ["N", 2, 4]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("nobody", 1, ["N", 2, 4]))
    onnx.save(read, network)
    onnx.save(model, tmp_path / "less.onnx")
    verdict = verify(network, tmp_path / "less.onnx", threads=1)
    assert not verdict.passed
    assert "inputs" in (verdict.failure or "")


def test_golden_values_want_every_input(network: Path, tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="leave --golden or --drop-unused-inputs out"):
        fold_export(network, tmp_path / "out", threads=1, drop_unused_inputs=True, golden=True)
    assert not (tmp_path / "out").exists()
