"""The options of a session that are tried, how they go together, and which change nothing in a file."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
import onnx.parser
import onnxruntime as ort
import pytest

from bnfold.benchmarking.offline import write_offline
from bnfold.benchmarking.session_options import OPTIMIZERS, GraphEffects, default_settings, merged, option_changes
from bnfold.records.tuning import SessionSettings
from bnfold.runtime.settings import apply_settings, config_entries

CONV_RELU = """
net (float[1, 16, 8, 8] x) => (float[1, 16, 8, 8] y) { c = Conv <pads = [1, 1, 1, 1]> (x, w)  y = Relu (c) }
"""


@pytest.fixture
def conv_relu(tmp_path: Path) -> Path:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {CONV_RELU}')
    weights = np.random.default_rng(0).standard_normal((16, 16, 3, 3), np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    path = tmp_path / "conv_relu.onnx"
    onnx.save(model, path)
    return path


def names(default: SessionSettings) -> list[str]:
    return [settings.name(default) for settings in option_changes(default)]


def test_threads_come_by_halves() -> None:
    found = names(default_settings("cpu", 12))
    assert found[:4] == ["threads=6", "threads=3", "threads=1", "spinning off"]
    assert found[4] == "threads=6, execution_mode=parallel, inter_op_threads=2, mem_pattern off"


def test_one_cpu_leaves_nothing_to_choose_of_threads() -> None:
    found = names(default_settings("cpu", 1))
    assert not any("threads" in name or "spinning" in name for name in found)
    assert {"arena off", "mem_pattern off", "opt_level=basic"} <= set(found)
    assert "without NchwcTransformer" in found


def test_a_gpu_has_its_own_options_and_no_tf32_unless_allowed() -> None:
    default = default_settings("cuda", 8)
    assert default.provider_options == {"use_tf32": "0"}
    changed = [own.provider_options for own in option_changes(default)]
    assert {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"} in changed
    assert {"use_tf32": "0", "prefer_nhwc": "1"} in changed
    assert all(options["use_tf32"] == "0" for options in changed)
    assert any(own.cuda_graph for own in option_changes(default))
    assert not any("threads" in own.changes(default) for own in option_changes(default))
    allowed = [own for own in option_changes(default, allow_tf32=True) if own.provider_options["use_tf32"] == "1"]
    assert [own.name(default) for own in allowed] == ["use_tf32=1"]
    host = default_settings("cpu", 8)
    assert len(list(option_changes(host, allow_tf32=True))) == len(list(option_changes(host)))


def test_changes_go_together_unless_they_contradict() -> None:
    default = SessionSettings(threads=4)
    change = functools.partial(dataclasses.replace, default)
    ranked = [
        change(threads=2), change(threads=1), change(arena=False), change(disabled_optimizers=("A",)),
        change(disabled_optimizers=("B",)), change(provider_options={"a": "1"}), change(provider_options={"a": "2"}),
        change(provider_options={"b": "3"}),
    ]  # fmt: skip
    assert merged(default, ranked) == change(
        threads=2, arena=False, disabled_optimizers=("A", "B"), provider_options={"a": "1", "b": "3"}
    )
    assert merged(default, []) == default


def test_what_changes_no_graph_need_not_be_measured(conv_relu: Path) -> None:
    default = default_settings("cpu", 1)
    effects = GraphEffects(conv_relu, default)
    assert effects.is_written
    changing = [own.name(default) for own in option_changes(default) if effects.changes_graph(own)]
    graphs = [name for name in changing if name.startswith(("without", "opt_level"))]
    assert {"opt_level=extended", "opt_level=basic", "without NchwcTransformer"} <= set(graphs)
    assert "without LayerNormFusionL1" not in graphs
    assert {"arena off", "mem_pattern off"} <= set(changing)


def test_names_of_optimizers_are_those_of_onnxruntime(conv_relu: Path, tmp_path: Path) -> None:
    """A name that there is not would be ignored: each of those that matter here takes its node out."""
    kinds = {}
    for name in ("", "NchwcTransformer"):
        settings = SessionSettings(threads=1, disabled_optimizers=(name,) if name else ())
        write_offline(conv_relu, tmp_path / "out.onnx", "all", "cpu", settings)
        kinds[name] = {(node.domain, node.op_type) for node in onnx.load(tmp_path / "out.onnx").graph.node}
    assert ("com.microsoft.nchwc", "Conv") in kinds[""]
    assert not any(domain == "com.microsoft.nchwc" for domain, _ in kinds["NchwcTransformer"])
    library = next((Path(ort.__file__).parent / "capi").glob("onnxruntime_pybind11_state*"))
    binary = library.read_bytes()
    assert [name for name in OPTIMIZERS if name.encode() not in binary] == []


def test_settings_reach_the_session_options() -> None:
    options = ort.SessionOptions()
    settings = SessionSettings(
        execution_mode="parallel", inter_op_threads=3, spinning=False, arena=False, mem_pattern=False,
        denormals_as_zero=True, disabled_optimizers=("A", "B"),
    )  # fmt: skip
    apply_settings(ort, options, settings)
    assert options.execution_mode == ort.ExecutionMode.ORT_PARALLEL
    assert (options.inter_op_num_threads, options.enable_cpu_mem_arena, options.enable_mem_pattern) == (3, False, False)
    for key, value in config_entries(settings).items():
        assert options.get_session_config_entry(key) == value
    assert config_entries(SessionSettings()) == {}
