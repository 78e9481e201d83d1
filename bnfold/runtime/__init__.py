"""ONNX Runtime and the machine: which build is installed, sessions, providers, threads, environment."""

from __future__ import annotations

from bnfold.runtime.cpus import CpuLimits, cpu_limits, usable_cpus
from bnfold.runtime.machine import available_threads, environment
from bnfold.runtime.packages import installed_builds, missing_package, require_onnxruntime
from bnfold.runtime.placement import is_ort_format
from bnfold.runtime.probe import run_probe
from bnfold.runtime.providers import (
    Provider,
    ProviderSpec,
    most_telling,
    provider_names,
    provider_spec,
    register_provider,
)
from bnfold.runtime.sessions import open_session

__all__ = [
    "CpuLimits",
    "Provider",
    "ProviderSpec",
    "available_threads",
    "cpu_limits",
    "environment",
    "installed_builds",
    "is_ort_format",
    "missing_package",
    "most_telling",
    "open_session",
    "provider_names",
    "provider_spec",
    "register_provider",
    "require_onnxruntime",
    "run_probe",
    "usable_cpus",
]
