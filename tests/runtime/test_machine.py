"""Threads come from the affinity mask and the quota; the environment is plain JSON."""

from __future__ import annotations

import json
import os
import platform
from typing import TYPE_CHECKING

import pytest

from bnfold.runtime import available_threads, cuda_libraries, environment, machine, usable_cpus
from bnfold.runtime.providers import cuda

if TYPE_CHECKING:
    from pathlib import Path


def test_threads_follow_the_affinity_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {5, 1, 3}, raising=False)
    monkeypatch.setattr(machine, "cpu_quota", lambda: None)
    assert usable_cpus() == (1, 3, 5)
    assert available_threads() == 3


@pytest.mark.parametrize(("quota", "threads"), [(None, 4), (8.0, 4), (2.5, 2), (0.5, 1)])
def test_threads_stay_within_the_quota(quota: float | None, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(machine, "cpu_quota", lambda: quota)
    assert available_threads() == threads


@pytest.mark.parametrize(("content", "quota"), [("max 100000\n", None), ("150000 100000\n", 1.5), (None, None)])
def test_quota_of_the_control_group(
    content: str | None, quota: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cpu.max"
    if content is not None:
        path.write_text(content, encoding="ascii")
    monkeypatch.setattr(machine, "CPU_MAX", path)
    assert machine.cpu_quota() == quota


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
