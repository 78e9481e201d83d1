"""The finished file: same function, same interface, no trace of this machine, the same bytes every time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import bnfold
from bnfold.errors import EnvironmentNotReady
from bnfold.export import count_batchnorms, finish, save
from bnfold.export import sizes as limits

if TYPE_CHECKING:
    import numpy.typing as npt


@pytest.fixture(scope="module")
def finished(plain: ir.Model) -> onnx.ModelProto:
    return finish(plain)


@pytest.mark.parametrize("batch", [1, 5])
def test_it_runs_at_every_batch_and_computes_the_same(
    plain: ir.Model, finished: onnx.ModelProto, run: object, image: npt.NDArray[np.float32], batch: int
) -> None:
    before, after = (run(proto, image[:batch]) for proto in (ir.to_proto(plain), finished))  # type: ignore[operator]  # fixture

    assert list(before) == list(after)
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values)


def test_inputs_and_outputs_are_unchanged(plain: ir.Model, finished: onnx.ModelProto) -> None:
    before = ir.to_proto(plain).graph

    for new, old in zip((*finished.graph.input, *finished.graph.output), (*before.input, *before.output), strict=True):
        assert (new.name, new.type) == (old.name, old.type)
    assert finished.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_the_batchnorm_is_not_folded_behind_our_back(finished: onnx.ModelProto) -> None:
    assert count_batchnorms(finished) == 1


def test_nodes_have_the_names_of_the_users_layers(finished: onnx.ModelProto) -> None:
    names = [node.name for node in finished.graph.node]

    assert {"blocks.0.conv/Conv", "blocks.0.bn/BatchNormalization", "blocks.0/Relu", "fc/Gemm"} <= set(names)
    assert len(set(names)) == len(names)
    assert all(names)


def test_nothing_tells_of_this_machine_or_of_the_tools(finished: onnx.ModelProto) -> None:
    content = finished.SerializeToString()

    assert (finished.producer_name, finished.producer_version) == ("bnfold", bnfold.__version__)
    assert not finished.graph.value_info
    assert not finished.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in finished.graph.node)
    for trace in (str(Path(onnx.__file__).parent), str(Path.cwd()), "/home", ".py", "pkg.torch", "onnxsim"):
        assert trace.encode() not in content


def test_the_folded_graph_is_not_changed(plain: ir.Model, finished: onnx.ModelProto) -> None:
    before = ir.to_proto(plain).SerializeToString(deterministic=True)

    assert finish(plain).SerializeToString(deterministic=True) == finished.SerializeToString(deterministic=True)
    assert ir.to_proto(plain).SerializeToString(deterministic=True) == before


def test_a_free_dimension_must_stay_free(plain: ir.Model) -> None:
    from bnfold.export.finish import _restore_interface

    before = ir.to_proto(plain).graph.input
    narrowed = onnx.GraphProto(input=before).input
    narrowed[0].type.tensor_type.shape.dim[0].dim_value = 1

    with pytest.raises(RuntimeError, match="changed image"):
        _restore_interface(narrowed, before)


def test_an_output_keeps_the_names_of_sizes_that_follow_from_fixed_inputs() -> None:
    """Many exporters name every axis of an output."""
    text = '<ir_version: 8, opset_import: ["": 17]> net (float[N, 4] x) => (float[N, width] y) {y = Relu(x)}'
    proto = onnx.parser.parse_model(text)

    assert finish(ir.from_proto(proto)).graph.output[0] == proto.graph.output[0]


def test_saving_writes_one_file(finished: onnx.ModelProto, tmp_path: Path) -> None:
    assert save(finished, tmp_path / "model.onnx") == (tmp_path / "model.onnx",)
    assert onnx.load_model(tmp_path / "model.onnx") == finished


def test_saving_a_large_model_writes_its_data_beside_it(
    finished: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PROTOBUF_LIMIT", 100)
    files = [save(finished, tmp_path / "model.onnx") for _ in range(2)][1]

    assert [path.name for path in files] == ["model.onnx", "model.onnx.data"]
    assert files[1].stat().st_size == 4 * 36 * 2 * 4
    assert str(tmp_path).encode() not in files[0].read_bytes()
    for loaded, original in zip(onnx.load_model(files[0]).graph.initializer, finished.graph.initializer, strict=True):
        assert onnx.numpy_helper.to_array(loaded).tobytes() == onnx.numpy_helper.to_array(original).tobytes()


def test_a_large_model_is_finished_without_onnxsim(
    plain: ir.Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "PROTOBUF_LIMIT", 100)

    assert count_batchnorms(finish(plain)) == 1
    assert "without simplification" in caplog.text


def test_a_missing_onnxsim_is_installed_by_itself(plain: ir.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """`bnfold[cpu]` would install a second ONNX Runtime beside that of `bnfold[gpu]`."""
    monkeypatch.setitem(sys.modules, "onnxsim", None)
    with pytest.raises(EnvironmentNotReady, match="onnxsim, which is not installed; run `pip install onnxsim`"):
        finish(plain)


def test_a_graph_whose_batch_onnxsim_takes_for_one_is_written_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["" : 20]>
    net (float[batch, 16] x) => (float[a, b] y) <float[16, 4] w = {"""
        + ", ".join(["0.5"] * 64)
        + """}> {
        axis = Constant <value = int64[1] {0}> ()
        row = Squeeze (x, axis)
        again = Unsqueeze (row, axis)
        y = MatMul (again, w)
    }"""
    )
    file = finish(ir.from_proto(model))
    assert file.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [node.op_type for node in file.graph.node].count("MatMul") == 1
    assert "onnxsim found a number for the named sizes of x" in caplog.text
