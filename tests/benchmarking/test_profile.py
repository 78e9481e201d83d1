"""Where the time goes, in the user's names: fused and moved operators are found again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from bnfold.benchmarking.axes import Axes, Cell
from bnfold.benchmarking.cell import CellResult
from bnfold.benchmarking.cell_records import cell_runs
from bnfold.benchmarking.layers import NO_LAYER, Layers
from bnfold.benchmarking.load import Load
from bnfold.benchmarking.measure import bench_files
from bnfold.benchmarking.profile import _profiled, profile_file
from bnfold.benchmarking.subjects import file_subject
from bnfold.report import render_bench

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """Two convolutions with ReLUs and a residual sum, named as our own files name them."""
    random = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
        for name, shape in (("stem.weight", (16, 3, 3, 3)), ("block.conv.weight", (16, 16, 3, 3)))
    ]
    nodes = [
        helper.make_node("Conv", ["x", "stem.weight"], ["a"], "stem/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "act/Relu"),
        helper.make_node("Conv", ["b", "block.conv.weight"], ["c"], "block.conv/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "b"], ["d"], "block/Add"),
        helper.make_node("Relu", ["d"], ["e"], "act/Relu_1"),
        helper.make_node("Softmax", ["e"], ["y"], "head.soft/Softmax", axis=1),
    ]
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 16, 16, 16])],
        weights,
    )  # fmt: skip
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


X = {"x": np.ones((1, 3, 16, 16), np.float32)}


def test_layers_without_optimization(network: Path) -> None:
    profile = profile_file("net", network, network, Cell("cpu", 1, "disabled", None, 1), X)
    assert {entry.name for entry in profile.layers} == {"stem", "act", "block.conv", "block", "head.soft"}
    kinds = {entry.name: entry.n_nodes for entry in profile.operators}
    assert kinds == {"Conv": 2, "Relu": 2, "Add": 1, "Softmax": 1}


@pytest.mark.parametrize("level", ["extended", "all"])
def test_layers_of_fused_operators(network: Path, level: str) -> None:
    profile = profile_file("net", network, network, Cell("cpu", 1, level, None, 1), X)  # type: ignore[arg-type]
    layers = {entry.name for entry in profile.layers}
    assert {"stem", "block.conv", "head.soft"} <= layers
    assert layers <= {"stem", "act", "block.conv", "block", "head.soft", NO_LAYER}
    for entries in (profile.operators, profile.layers):
        assert sum(entry.share for entry in entries) == pytest.approx(1.0)
        assert [entry.ms for entry in entries] == sorted((entry.ms for entry in entries), reverse=True)
    assert 0 < profile.n <= 200
    assert profile.run_ms > 0


def test_a_loop_is_not_counted_twice(write: Callable[[str, str], Path]) -> None:
    """ONNX Runtime's time of a Loop holds that of its body: Loop had 63 %, its body the same time once more."""
    body = "b (int64 i, bool c, float[N, 3] a) => (bool d, float[N, 3] r) { d = Identity (c)\n r = Relu (a) }"
    path = write(
        "loop.onnx",
        "net (float[N, 3] x) => (float[N, 3] y) <int64 n = {5}, bool go = {1}> "
        f"{{ y = Loop (n, go, x) <body = {body}> }}",
    )
    cell, x = Cell("cpu", 1, "disabled", None, 1), {"x": np.ones((1, 3), np.float32)}
    with pytest.MonkeyPatch.context() as patch:
        events: list[dict[str, Any]] = []
        patch.setattr(
            "bnfold.benchmarking.profile._profiled", lambda *given: events.extend(_profiled(*given)) or events
        )
        profile = profile_file("loop", path, path, cell, x)
    loops = [
        event["dur"]
        for event in events
        if event["name"].endswith("_kernel_time") and event["args"]["op_name"] == "Loop"
    ]
    assert {entry.name: entry.n_nodes for entry in profile.operators} == {"Loop": 1, "Identity": 5, "Relu": 5}
    assert sum(entry.ms for entry in profile.operators) * profile.n == pytest.approx(sum(loops[-profile.n :]) / 1e3)
    assert [entry.name for entry in profile.layers] == [NO_LAYER]


def test_a_file_in_onnx_runtime_s_own_format(network: Path, tmp_path: Path) -> None:
    """It had ended as a fault of the program: nobody else can read it."""
    path = tmp_path / "net.ort"
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(path)
    ort.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    report = bench_files([path], Axes(threads=1, optimize=("online", "offline")), budget_s=0.01, profile=True)
    assert [[entry.name for entry in profile.layers] for profile in report.profiles] == [[NO_LAYER]] * 2
    assert all(len(profile.operators) > 1 for profile in report.profiles)


def test_names_of_a_fused_and_moved_operator(network: Path) -> None:
    layers = Layers(network)
    assert layers.of("e_nchwc", "Conv") == "block.conv"  # Conv-Add-ReLU in one, named by its output
    assert layers.of("b_nchwc", "FusedConv") == "stem"
    assert layers.of("act/Relu_1", "Relu") == "act"
    assert layers.of("ReorderOutput_token_3", "ReorderOutput") == NO_LAYER


def test_a_convolution_that_was_merged_with_its_batchnorm_is_named_after_its_weight(network: Path) -> None:
    """The exporter's optimizer leaves the BatchNorm's scopes on the merged node; before and after would not line up."""
    model = onnx.load(network)
    model.graph.node[0].name = "node_Conv_1"
    scopes = model.graph.node[0].metadata_props.add()
    scopes.key, scopes.value = "pkg.torch.onnx.name_scopes", "['', 'stem_bn', 'conv']"
    onnx.save(model, network)
    assert Layers(network).of("node_Conv_1", "Conv") == "stem"


@pytest.mark.parametrize(
    ("rates", "confirmed"), [((100, 91), True), ((100, 89), False), ((100, 99, 130, 98, 101, 100), True)]
)
def test_what_confirms_a_rate(rates: tuple[float, ...], confirmed: bool) -> None:
    """Every other search against those between: a single one that is off among many does no harm."""
    result = CellResult(Cell("cpu", 1, "all", None, 1, load=Load("open-loop")), {}, ["net"])
    for rate in rates:
        result.timings.begin_load()
        result.timings.add_round([(1e3 / rate, [1.0, 2.0])])
    (run,) = cell_runs(result, [file_subject("net", Path("net.onnx"))])
    assert run.rate_confirmed is confirmed


def test_the_offline_file_is_told_in_the_source_s_names(
    network: Path, quiet: None, capsys: pytest.CaptureFixture[str]
) -> None:
    report = bench_files(
        [network, network], Axes(threads=1, optimize=("offline",)), names=["new", "old"], budget_s=0.1, profile=True
    )
    assert [(profile.name, profile.optimize) for profile in report.profiles] == [("new", "offline"), ("old", "offline")]
    assert "block.conv" in {entry.name for entry in report.profiles[0].layers}
    render_bench(report)
    out = capsys.readouterr().out
    assert "Where the time goes: CPUExecutionProvider, threads 1, all offline, batch 1" in out
    assert "new ms" in out
    assert "old ms" in out
