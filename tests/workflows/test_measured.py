"""A BatchNorm behind a ReLU and in front of another: it can move only where that is measured faster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from bnfold.benchmarking import bench_files
from bnfold.folding import fold, fold_model
from bnfold.graph.float64 import evaluate, to_float64
from bnfold.records import BenchRatio, BenchReport, BenchRun
from bnfold.workflows import measured
from bnfold.workflows.fold_export import fold_export

if TYPE_CHECKING:
    from pathlib import Path

CHANNELS = 8


@pytest.fixture
def model() -> onnx.ModelProto:
    """relu(x) -> BN -> relu -> 1x1 Conv: the offset is held at 0 on both sides of the BatchNorm."""
    rng = np.random.default_rng(5)
    parameters = {
        "gamma": rng.uniform(0.5, 1.5, CHANNELS),
        "beta": rng.normal(0, 0.5, CHANNELS),
        "mean": rng.normal(0.5, 0.3, CHANNELS),
        "var": rng.uniform(0.5, 1.5, CHANNELS),
        "w": rng.normal(0, 0.3, (4, CHANNELS, 1, 1)),
        "b": rng.normal(0, 0.1, 4),
    }
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("BatchNormalization", ["r", "gamma", "beta", "mean", "var"], ["n"], name="norm"),
        helper.make_node("Relu", ["n"], ["q"]),
        helper.make_node("Conv", ["q", "w", "b"], ["y"], name="conv"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", CHANNELS, 6, 6])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 4, 6, 6])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in parameters.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_rewrite_is_exact(model: onnx.ModelProto) -> None:
    import onnx_ir as ir

    wide = to_float64(model)
    kept = fold(wide)[1]
    assert (kept.kept, kept.found) == (1, 1)
    moved = ir.from_proto(wide)
    ledger = fold_model(moved, move_behind_relus=True)
    assert (ledger.absorbed, ledger.kept) == (1, 0)
    proto = ir.to_proto(moved)
    assert [node.op_type for node in proto.graph.node] == ["Relu", "Max", "Conv"]
    feed = {"x": np.random.default_rng(0).normal(size=(3, CHANNELS, 6, 6))}
    expected, actual = evaluate(wide, feed)["y"], evaluate(proto, feed)["y"]
    assert np.abs(actual - expected).max() <= 1e-10 * np.abs(expected).max()


@pytest.mark.parametrize("verdict", ["faster", "tie", "slower"])
def test_measurement_decides(
    model: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdict: str
) -> None:
    ratio = {"faster": 0.8, "tie": 1.0, "slower": 1.2}[verdict]

    def pretended(files: list[Path], *_: object, **__: object) -> BenchReport:
        runs = tuple(
            BenchRun(f.stem, str(f), "CPUExecutionProvider", 1, 100, 1.0, 1.0, ms, ms, 1 / ms, 1.0)
            for f, ms in zip(files, (ratio, 1.0), strict=True)
        )
        ratios = (BenchRatio("with", "without", 1, ratio, ratio - 0.01, ratio + 0.01, verdict),)  # type: ignore[arg-type]  # one of the three
        return BenchReport({}, runs, ratios)

    monkeypatch.setattr(measured, "bench_files", pretended)
    onnx.save(model, tmp_path / "net.onnx")
    report = fold_export(tmp_path / "net.onnx", tmp_path / "out", measure=True)
    choice = report.ledger.measured
    assert report.passed
    assert choice is not None
    assert (choice.with_ms, choice.without_ms, choice.verdict) == (ratio, 1.0, verdict)
    assert choice.taken == (verdict == "faster")
    assert report.ledger.kept == report.graph.batchnorm_after == (0 if choice.taken else 1)
    written = onnx.load(tmp_path / "out" / "model.onnx")
    assert any(node.op_type == "Max" for node in written.graph.node) == choice.taken


def test_really_measured(model: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    brief = {"budget_s": 1.0}
    monkeypatch.setattr(measured, "bench_files", lambda *given, **options: bench_files(*given, **{**options, **brief}))
    onnx.save(model, tmp_path / "net.onnx")
    report = fold_export(tmp_path / "net.onnx", tmp_path / "out", measure=True, threads=1)
    choice = report.ledger.measured
    assert choice is not None
    assert choice.with_ms > 0 < choice.without_ms
    assert choice.taken == (choice.verdict == "faster")


def test_nothing_to_measure(model: onnx.ModelProto, tmp_path: Path) -> None:
    del model.graph.node[1:3]
    model.graph.node[1].input[0] = "r"
    onnx.save(model, tmp_path / "net.onnx")
    report = fold_export(tmp_path / "net.onnx", tmp_path / "out", measure=True)
    assert (report.ledger.found, report.ledger.measured) == (0, None)
