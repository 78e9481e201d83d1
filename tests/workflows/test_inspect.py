"""`bnfold inspect`: the ledger, and nothing else touched or loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import bnfold
from bnfold.records import Cause, as_json
from bnfold.report.html import render_html

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result


def test_ledger_is_that_of_fold_export_and_nothing_is_written(network: Path, tmp_path: Path) -> None:
    content = network.read_bytes()
    report = bnfold.inspect(network)
    assert list(tmp_path.iterdir()) == [network]
    assert network.read_bytes() == content
    exported = bnfold.fold_export(network, tmp_path / "output")
    assert report.ledger == exported.ledger
    assert report.source == exported.source


def test_weights_may_be_a_string(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    (tmp_path / "net.py").write_text(
        "import torch\n\ndef net():\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4)).eval()\n"
    )
    state = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4)).state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    report = bnfold.inspect(
        f"{tmp_path}/net.py:net", weights=f"{tmp_path}/weights.safetensors", input_shapes=[(1, 3, 8, 8)]
    )
    assert report.ledger.found == 1


def test_json_holds_source_and_ledger(cli: Callable[..., Result], network: Path) -> None:
    result = cli("inspect", network, "--json", "-")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == as_json(bnfold.inspect(network))
    assert json.loads(result.stdout)["schema"] == "bnfold.inspect/1"


def test_table_names_the_layer_and_its_end(cli: Callable[..., Result], network: Path) -> None:
    result = cli("inspect", network)
    assert result.exit_code == 0
    assert "absorbed" in result.stdout
    assert "1 found, 1 absorbed" in result.stdout


def test_the_drawing_is_that_of_the_json(cli: Callable[..., Result], network: Path, tmp_path: Path) -> None:
    """Nodes before and after, under the names that the ledger has for BatchNorms; the source is never overwritten."""
    result = cli("inspect", network, "--html", tmp_path / "net.html", "--json", tmp_path / "net.json")
    assert result.exit_code == 0
    report = json.loads((tmp_path / "net.json").read_text())
    assert (tmp_path / "net.html").read_bytes() == render_html(report)
    before, after = (report["network"][side]["nodes"] for side in ("before", "after"))
    assert [node["batchnorm"] for node in before if node["batchnorm"]] == [
        e["name"] for e in report["ledger"]["entries"]
    ]
    assert len(after) == len(before) - 1
    assert cli("inspect", network, "--html", network).exit_code == 2


def test_on_a_terminal_there_is_a_tree(
    cli: Callable[..., Result], network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnfold.report.terminal_height", lambda: 50)
    assert "absorbed into" in cli("inspect", network).stdout
    assert "max |s|" not in cli("inspect", network).stdout
    assert "max |s|" in cli("inspect", network, "-v").stdout


@pytest.mark.parametrize("shape", [(), (5,), (4, 1)])
def test_parameters_that_are_not_one_for_each_channel(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """No runtime runs such a file, but the checker takes it."""
    names = ["gamma", "beta", "mean", "variance"]
    graph = helper.make_graph(
        [helper.make_node("BatchNormalization", ["x", *names], ["y"], name="bn")],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, 3])],
        [numpy_helper.from_array(np.ones(shape, np.float32), name) for name in names],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "net.onnx")
    (entry,) = bnfold.inspect(tmp_path / "net.onnx").ledger.entries
    assert (entry.outcome, entry.cause) == ("kept", Cause.INVALID)


def test_onnx_file_loads_neither_torch_nor_onnxruntime(network: Path) -> None:
    program = (
        "import sys; from bnfold.cli.main import main; main(['inspect', sys.argv[1]], standalone_mode=False); "
        "print(sorted({'torch', 'onnxruntime', 'onnxsim', 'sklearn'} & set(sys.modules)))"
    )
    repository = Path(bnfold.__file__).parents[1]
    printed = subprocess.run(
        [sys.executable, "-c", program, network], cwd=repository, check=True, text=True, capture_output=True
    ).stdout
    assert printed.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "text",
    [
        "g (float[A, B, C, D] x) => (float[A, B, C, D] y) { y = Relu (x) }",
        "g (float x) => (float y) { y = Relu (x) }",
        "g (seq(float[A, B]) x) => (seq(float[A, B]) y) { y = Identity (x) }",
        "g (optional(float[A]) x) => (bool y) { y = OptionalHasElement (x) }",
        "g (string[A, B] x) => (string[A, B] y) { y = Identity (x) }",
        "g (complex64[0, B] x) => (complex64[0, B] y) { y = Identity (x) }",
        "g (float[A] x, int64[B] s) => (y) { y = Reshape (x, s) }",
        "g (float[A, B] x) => (y) { y = com.microsoft.FusedMatMul (x, x) }",
        "g (float[A, B] x) => (y) { y = com.microsoft.BatchNormalization (x) }",
        "g (float[A, 3, H, W] x) => (y) { q, s, z = DynamicQuantizeLinear (x) y = DequantizeLinear (q, s, z) }",
    ],
)
def test_inspect_of_a_file_takes_any_inputs_and_outputs(text: str, cli: Callable[..., Result], tmp_path: Path) -> None:
    """It runs nothing, so it needs no sizes, and no kinds of values that could be fed."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18, "com.microsoft" : 1]> {text}')
    onnx.save(model, tmp_path / "any.onnx")
    result = cli("inspect", tmp_path / "any.onnx")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "0 found" in result.stdout


def test_stale_output_shape_is_no_refusal(tmp_path: Path) -> None:
    """The file that is written declares what its operators give."""
    text = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[1, 2, width] x) => (float[1, sequence] y)
    <float[3, 2, 1] w = {1, 2, 3, 4, 5, 6}, float[3] s = {1, 2, 3}, int64[1] three = {3}> {
      c = Conv (x, w)
      b = BatchNormalization (c, s, s, s, s)
      t = Transpose <perm = [2, 0, 1]> (b)
      sizes = Shape <end = 2> (t)
      back = Concat <axis = 0> (sizes, three)
      y = Reshape (t, back)
    }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "stale.onnx")
    report = bnfold.fold_export(tmp_path / "stale.onnx", tmp_path / "out", input_shapes=[(1, 2, 5)])
    assert report.passed
    assert report.ledger.kept == 0
    (y,) = onnx.load(tmp_path / "out" / "model.onnx").graph.output
    assert len(y.type.tensor_type.shape.dim) == 3


def test_output_shape_that_only_a_run_contradicts_is_left_open(cli: Callable[..., Result], tmp_path: Path) -> None:
    """What a Squeeze without axes takes off, no inference can know."""
    text = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[1, 2, width] x) => (float[1, width] y, float[1, 2, width] z) <float[1, 2, 1] w = {1, 2}> {
      c = Conv (x, w)
      y = Squeeze (c)
      z = Relu (x)
    }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "stale.onnx")
    result = cli("fold-export", tmp_path / "stale.onnx", "-o", tmp_path / "out", "--dim", "width=5", "--budget", "0")
    assert result.exit_code == 0, result.stderr
    assert "declares output y as 1xwidth, and computes 5" in result.stderr
    y, z = onnx.load(tmp_path / "out" / "model.onnx").graph.output
    assert len(y.type.tensor_type.shape.dim) == 1
    assert [dim.dim_value for dim in z.type.tensor_type.shape.dim[:2]] == [1, 2]


def test_output_shape_at_length_1_is_no_evidence(tmp_path: Path) -> None:
    """A Squeeze without axes takes off what is 1 by chance."""
    text = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[1, 2, width] x) => (float[width] y) <float[1, 2, 1] w = {1, 2}> { c = Conv (x, w) y = Squeeze (c) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "net.onnx")
    assert bnfold.fold_export(tmp_path / "net.onnx", tmp_path / "out", dims={"width": 1}, budget_s=0).passed
    (y,) = onnx.load(tmp_path / "out" / "model.onnx").graph.output
    assert [dim.dim_param for dim in y.type.tensor_type.shape.dim] == ["width"]
