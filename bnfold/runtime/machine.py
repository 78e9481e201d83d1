"""Facts about this machine: CPUs this process may use, memory, versions."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import psutil

from bnfold.runtime.cpus import cpu_limits
from bnfold.runtime.packages import installed_builds, installed_version
from bnfold.runtime.providers import Provider, provider_spec

__all__ = ["available_threads", "cpu_model", "environment"]

PACKAGES = ("onnx", "onnx-ir", "onnxsim", "numpy", "torch")


def available_threads() -> int:
    """How many threads this process can run at once: the affinity mask, bounded by cpuset and quota."""
    return cpu_limits().threads


def cpu_model() -> str:
    """The name of the CPU as the system gives it."""
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def environment(provider: Provider = "cpu", threads: int | None = None) -> dict[str, Any]:
    """What a measurement depends on, as plain JSON values.

    Args:
        provider: adds what it says of its device, a GPU for instance.
        threads: threads of one operator, None for `available_threads()`.

    Returns:
        A dict; memory in MiB. Whether the machine was quiet (`noise`) is added by whoever measures.
    """
    builds, limits = installed_builds(), cpu_limits()
    facts: dict[str, Any] = {
        "cpu": cpu_model(),
        "n_cpus": os.cpu_count(),
        "affinity": list(limits.cpus),
        "cpu_quota": limits.quota,
        "threads": threads or limits.threads,
        "memory_mb": round(psutil.virtual_memory().total / 2**20),
        "os": platform.platform(),
        "python": platform.python_version(),
        "provider": provider,
        "onnxruntime": next(iter(builds.values()), None),
        "onnxruntime_build": next(iter(builds), None),
        **{name.replace("-", "_"): installed_version(name) for name in PACKAGES},
        "load_average": [round(load, 2) for load in psutil.getloadavg()],
    }
    return {**facts, **provider_spec(provider).device_facts()}
