"""`bnfold bench`: tables or JSON on standard output, progress on standard error, the contract's exit codes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import onnx.parser
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

QUICK = ("--budget", "0.1", "--threads", "1")


@pytest.fixture
def relu(tmp_path: Path) -> Path:
    path = tmp_path / "relu.onnx"
    text = '<ir_version: 8, opset_import: ["" : 17]> net (float[N, 3] x) => (float[N, 3] y) { y = Relu (x) }'
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    return path


def test_tables_and_a_json_file(cli: Callable[..., Result], relu: Path, tmp_path: Path) -> None:
    result = cli("bench", relu, relu, *QUICK, "--json", tmp_path / "bench.json")
    assert result.exit_code == 0
    assert "relu / relu#2" in result.stdout
    assert "bench: 100 %" in result.stderr
    report = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert report["schema"] == "bnfold.bench/1"
    assert [run["name"] for run in report["runs"]] == ["relu", "relu#2"]


def test_json_on_standard_output_is_alone(cli: Callable[..., Result], relu: Path) -> None:
    result = cli("bench", relu, *QUICK, "--batch", "1,2", "--json", "-")
    assert [run["batch"] for run in json.loads(result.stdout)["runs"]] == [1, 2]


def test_no_files_is_a_usage_error(cli: Callable[..., Result]) -> None:
    assert cli("bench").exit_code == 2


def test_a_truncated_file(cli: Callable[..., Result], relu: Path) -> None:
    relu.write_bytes(relu.read_bytes()[:-20])
    result = cli("bench", relu, "-q")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith(f"error: ONNX Runtime does not load it in {relu}: found ")
    assert result.stderr.count("\n") == 1


def test_a_provider_that_does_not_load(cli: Callable[..., Result], relu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    result = cli("bench", relu, "--provider", "cuda", "-q")
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr.startswith("error: the provider CUDAExecutionProvider does not load: found a build with ")


@pytest.mark.parametrize(
    ("builds", "says"), [({}, "is not installed"), ({"onnxruntime": "1", "onnxruntime-gpu": "1"}, "more than once")]
)
def test_no_build_or_two(
    builds: dict[str, str], says: str, cli: Callable[..., Result], relu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnfold.runtime.packages.installed_builds", lambda: builds)
    monkeypatch.setattr("bnfold.runtime.packages.find_spec", lambda _name: None)
    result = cli("bench", relu, "-q")
    assert result.exit_code == 4
    assert says in result.stderr
    assert 'pip install "bnfold[cpu]"`' in result.stderr
