"""The session of this bundle: ONNX Runtime with the options of manifest.json, on its provider and no other one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

LEVELS = {"disabled": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED"}
CGROUP = Path("/sys/fs/cgroup")
CPU = "CPUExecutionProvider"


class ProviderMissing(Exception):  # noqa: N818 - named for what ended the work
    """ONNX Runtime does not run the model on the provider that the bundle is for."""


def available_threads(cgroup: Path = CGROUP) -> int:
    """The CPUs that this process may use: of its affinity mask, and no more than its container's quota."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, min(affinity, _quota(cgroup) or affinity))


def _quota(cgroup: Path) -> int | None:
    """CPUs by the quota of cgroup v2 (cpu.max) or v1 (cpu.cfs_quota_us); None without one."""
    try:
        if (cgroup / "cpu.max").is_file():
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:
            quota, period = ((cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return max(1, int(quota) // int(period)) if int(quota) > 0 else None
    except (OSError, ValueError):  # no cgroup, or "max"
        return None


def open_session(manifest: dict[str, Any], folder: Path) -> Any:
    """Open the model; ProviderMissing where ONNX Runtime would compute on another provider."""
    import onnxruntime as ort

    provider, chosen = manifest["provider"], manifest["session"] or {}
    if provider not in ort.get_available_providers():
        raise ProviderMissing(
            f"this ONNX Runtime has {', '.join(ort.get_available_providers())}, expected {provider}; "
            "install requirements.txt"
        )
    options = _options(ort, chosen)
    if provider != CPU:
        if hasattr(ort, "preload_dlls"):
            ort.preload_dlls()
        if not os.environ.get("ALLOW_CPU_NODES"):  # ONNX Runtime refuses to open a model with such nodes then
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    given = {str(key): str(value) for key, value in chosen.get("provider_options", {}).items()}
    model = str(folder / manifest["model"]["path"])
    session = ort.InferenceSession(model, options, providers=[(provider, given)], enable_fallback=0)
    if session.get_providers()[0] != provider:
        raise ProviderMissing(
            f"ONNX Runtime fell back to {session.get_providers()[0]}, expected {provider}; see that its device and "
            "libraries are there"
        )
    return session


def _options(ort: Any, chosen: dict[str, Any]) -> Any:
    """Session options by their names in Python; never more threads than there are CPUs for this process."""
    options, n_threads = ort.SessionOptions(), available_threads()
    options.intra_op_num_threads = n_threads
    for name, value in chosen.get("session_options", {}).items():
        setattr(options, name, _value(ort, name, value, n_threads))
    if os.environ.get("THREADS"):
        options.intra_op_num_threads = int(os.environ["THREADS"])
    for key, value in chosen.get("config_entries", {}).items():
        options.add_session_config_entry(key, str(value))
    return options


def _value(ort: Any, name: str, value: Any, n_threads: int) -> Any:
    """A value of session.json as ONNX Runtime takes it."""
    if name == "graph_optimization_level":
        return getattr(ort.GraphOptimizationLevel, LEVELS.get(str(value), "ORT_ENABLE_ALL"))
    if name == "execution_mode":
        return getattr(ort.ExecutionMode, "ORT_PARALLEL" if value == "parallel" else "ORT_SEQUENTIAL")
    return min(int(value), n_threads) if name.endswith("_num_threads") else value
