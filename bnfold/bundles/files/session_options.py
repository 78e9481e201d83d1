"""The session of this bundle: ONNX Runtime with the options of manifest.json, on its provider and no other one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

LEVELS = {"disabled": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED"}
CGROUP = Path("/sys/fs/cgroup")


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
    """Open the model; ProviderMissing where ONNX Runtime would fall back to another provider."""
    import onnxruntime as ort

    provider, chosen = manifest["provider"], manifest["session"] or {}
    if provider not in ort.get_available_providers():
        raise ProviderMissing(
            f"this ONNX Runtime has {', '.join(ort.get_available_providers())}, expected {provider}; "
            "install requirements.txt"
        )
    if provider != "CPUExecutionProvider" and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    options = _options(ort, chosen)
    given = {str(key): str(value) for key, value in chosen.get("provider_options", {}).items()}
    session = ort.InferenceSession(
        str(folder / manifest["model"]["path"]), options, providers=[(provider, given)], enable_fallback=0,
        disabled_optimizers=chosen.get("disabled_optimizers") or None,
    )  # fmt: skip
    if session.get_providers()[0] != provider:
        raise ProviderMissing(
            f"ONNX Runtime fell back to {session.get_providers()[0]}, expected {provider}; see that its device and "
            "libraries are there"
        )
    return session


def _options(ort: Any, chosen: dict[str, Any]) -> Any:
    """Session options by their names in Python; threads are those that there are where nothing else is chosen."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = available_threads()
    given = dict(chosen.get("session_options", {}))
    if "graph_optimization_level" in given:
        level = LEVELS.get(str(given["graph_optimization_level"]), "ORT_ENABLE_ALL")
        given["graph_optimization_level"] = getattr(ort.GraphOptimizationLevel, level)
    if "execution_mode" in given:
        is_parallel = given["execution_mode"] == "parallel"
        given["execution_mode"] = getattr(ort.ExecutionMode, "ORT_PARALLEL" if is_parallel else "ORT_SEQUENTIAL")
    for name, value in given.items():
        setattr(options, name, value)
    if os.environ.get("THREADS"):
        options.intra_op_num_threads = int(os.environ["THREADS"])
    for key, value in chosen.get("config_entries", {}).items():
        options.add_session_config_entry(key, str(value))
    return options
