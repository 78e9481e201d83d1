"""Facts about this machine: CPUs this process may use, memory, versions."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import psutil

from bnfold.runtime.packages import installed_builds, installed_version
from bnfold.runtime.providers import Provider, provider_spec

__all__ = ["available_threads", "cpu_model", "environment", "usable_cpus"]

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
PACKAGES = ("onnx", "onnx-ir", "onnxsim", "numpy", "torch")


def usable_cpus() -> tuple[int, ...]:
    """The CPUs this process may run on, in order; every CPU where the system has no affinity mask."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def cpu_quota() -> float | None:
    """CPUs that the control group allows (Linux, cgroup v2, file cpu.max), None where there is no limit."""
    if not CPU_MAX.is_file():
        return None
    quota, period = CPU_MAX.read_text(encoding="ascii").split()
    return None if quota == "max" else int(quota) / int(period)


def available_threads() -> int:
    """How many threads this process can run at once: the affinity mask, bounded by the control group's quota."""
    quota = cpu_quota()
    threads = len(usable_cpus())
    return threads if quota is None else max(1, min(threads, int(quota)))


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
    builds = installed_builds()
    facts: dict[str, Any] = {
        "cpu": cpu_model(),
        "n_cpus": os.cpu_count(),
        "affinity": list(usable_cpus()),
        "cpu_quota": cpu_quota(),
        "threads": threads or available_threads(),
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
