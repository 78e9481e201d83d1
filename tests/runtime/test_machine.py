"""The environment of a measurement is plain JSON."""

from __future__ import annotations

import json
import platform
from typing import TYPE_CHECKING

import pytest

from bnfold.runtime import cuda_libraries, environment
from bnfold.runtime.providers import cuda

if TYPE_CHECKING:
    from pathlib import Path


def test_environment_is_plain_json() -> None:
    facts = environment("cpu", 3)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["threads"] == 3
    assert facts["python"] == platform.python_version()
    assert facts["cpu"]
    assert facts["onnxruntime"] is not None
    assert "gpu" not in facts


def test_environment_of_cuda_names_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "gpu_model", lambda: "Some GPU, 550.1")
    assert environment("cuda")["gpu"] == "Some GPU, 550.1"


def test_a_machine_without_nvidia_smi_has_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cuda_libraries.gpu_model() is None
