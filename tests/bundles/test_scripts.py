"""What runs in a bundle, where bnfold is not: check.py, the golden values, the options of the session."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from importlib import util
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from bundle_scripts import FILES, run_check

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType


def script(name: str) -> ModuleType:
    """A script of a bundle as a module."""
    spec = util.spec_from_file_location(name, FILES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


golden_values, session_options = script("golden_values"), script("session_options")


def edited(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A bundle with another manifest."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    return folder


def test_check_passes_and_fails(bundled: Callable[..., Path]) -> None:
    folder = bundled("onnxruntime")
    passed = run_check(folder)
    assert passed.returncode == 0, passed.stderr
    assert "passed: 2,016 values on CPUExecutionProvider" in passed.stdout
    edited(folder, lambda manifest: manifest["outputs"][0].update(allowed_rms=1e-9))
    failed = run_check(folder)
    assert failed.returncode == 1
    assert "failed: output y: root mean square error" in failed.stdout
    (folder / "model.onnx").write_bytes(b"")
    damaged = run_check(folder)
    assert damaged.returncode == 3
    assert f"error: {folder / 'model.onnx'} is not as it was written" in damaged.stderr


def test_check_never_takes_another_provider(bundled: Callable[..., Path]) -> None:
    folder = edited(bundled("onnxruntime"), lambda manifest: manifest.update(provider="MissingExecutionProvider"))
    found = run_check(folder)
    assert found.returncode == 4
    assert "expected MissingExecutionProvider" in found.stderr


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda y: y * np.float32(1.001), "root mean square error"),
        (lambda y: np.where(np.arange(y.size).reshape(y.shape) == 5, y + np.float32(0.01), y), "largest error"),
        (lambda y: y.astype(np.float16).astype(np.float32), "root mean square error"),
        (lambda y: y.astype(np.float64), "is float64"),
        (lambda y: y[:, :2], "is float32 (1, 2, 6, 6), expected float32 (1, 4, 6, 6)"),
        (lambda y: y * np.float32("nan"), "NaN or infinity"),
        (lambda _: None, "output y is missing"),
    ],
)
def test_wrong_answers_are_seen(spoil: Callable[[Any], Any], sentence: str, bundled: Callable[..., Path]) -> None:
    folder = bundled("onnxruntime")
    manifest = golden_values.read_manifest(folder)
    feeds = golden_values.read_feeds(manifest, folder)
    right, wrong = golden_values.Judged(manifest), golden_values.Judged(manifest)
    session = session_options.open_session(manifest, folder)
    for feed in feeds:
        (y,) = session.run(["y"], feed.inputs)
        right.take(feed, {"y": y})
        got = spoil(y)
        wrong.take(feed, {} if got is None else {"y": got})
    assert right.failures() == []
    assert right.n_compared == 14 * 144
    assert sentence in " ".join(wrong.failures())


def test_whole_numbers_are_equal_where_the_source_agrees_with_itself() -> None:
    manifest = {"outputs": [{"name": "k", "dtype": "int64", "allowed_rms": 0.0, "allowed_maximum": 0.0}]}
    exact = np.array([1, 2, 3])
    feed = golden_values.Feed({}, {"k": exact}, {"k": np.array([True, True, False])})
    judged = golden_values.Judged(manifest)
    judged.take(feed, {"k": np.array([1, 2, 9])})
    assert judged.failures() == []
    judged.take(replace(feed, agreed={"k": np.ones(3, bool)}), {"k": np.array([1, 2, 9])})
    assert "root mean square error" in judged.failures()[0]


def test_nothing_compared_does_not_pass() -> None:
    assert golden_values.Judged({"outputs": []}).failures() == ["nothing was compared"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_threads_are_those_of_the_container(files: dict[str, str], expected: int | None, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    whole = session_options.available_threads(tmp_path / "none")
    assert session_options.available_threads(tmp_path) == (expected or whole)


def test_a_session_is_opened_as_it_was_chosen(bundled: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bundled("onnxruntime")
    manifest = golden_values.read_manifest(folder)
    chosen = {
        "session_options": {"graph_optimization_level": "basic", "execution_mode": "parallel",
                            "intra_op_num_threads": 512, "enable_cpu_mem_arena": False},
        "config_entries": {"session.intra_op.allow_spinning": "0"},
    }  # fmt: skip
    options = session_options.open_session({**manifest, "session": chosen}, folder).get_session_options()
    assert options.graph_optimization_level.name == "ORT_ENABLE_BASIC"
    assert options.execution_mode.name == "ORT_PARALLEL"
    assert options.intra_op_num_threads == session_options.available_threads()
    assert options.enable_cpu_mem_arena is False
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    monkeypatch.setenv("THREADS", "3")
    assert session_options.open_session(manifest, folder).get_session_options().intra_op_num_threads == 3
