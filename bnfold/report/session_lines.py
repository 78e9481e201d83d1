"""The lines that set a session up: in Python, in C++, in Triton's config.pbtxt.

The Python and the C++ are ONNX Runtime's own interfaces (onnxruntime.ai/docs/api); Triton's parameters are those of its
onnxruntime backend (github.com/triton-inference-server/onnxruntime_backend, "Model Config Options").
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bnfold.runtime import provider_spec
from bnfold.runtime.providers import session_providers
from bnfold.runtime.settings import config_entries

if TYPE_CHECKING:
    from bnfold.records.tuning import SessionSettings

__all__ = ["cpp_lines", "python_lines", "session_lines", "triton_lines"]

LEVELS = {"disabled": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED"}
TRITON_LEVELS = {"basic": -1, "extended": 1, "disabled": 2}
OFFLINE = "offline.onnx"


def session_lines(settings: SessionSettings, file: str) -> dict[str, str]:
    """All three, by the names `python`, `cpp` and `triton`.

    Args:
        settings: with the number of threads.
        file: what is loaded.
    """
    return {
        "python": python_lines(settings, file), "cpp": cpp_lines(settings, file), "triton": triton_lines(settings),
    }  # fmt: skip


def python_lines(settings: SessionSettings, file: str) -> str:
    """A session in Python, `session`; where the graph is offline, it is written before, once."""
    asked = _providers(settings)
    lines = ["import onnxruntime", "", "options = onnxruntime.SessionOptions()", *_python_options(settings)]
    if settings.optimize == "offline":
        lines += [
            *_python_level(settings.opt_level),
            f'options.optimized_model_filepath = "{OFFLINE}"  # once, on the machine that serves',
            f"onnxruntime.InferenceSession({json.dumps(file)}, options, providers={asked!r})",
            "",
            'options.optimized_model_filepath = ""',
            *_python_level("disabled"),
        ]
        file = OFFLINE
    else:
        lines += _python_level(settings.opt_level)
    return "\n".join(
        [*lines, f"session = onnxruntime.InferenceSession({json.dumps(file)}, options, providers={asked!r})"]
    )


def _python_options(settings: SessionSettings) -> list[str]:
    lines = []
    if settings.threads is not None:
        lines.append(f"options.intra_op_num_threads = {settings.threads}")
    if settings.execution_mode == "parallel":
        lines += [
            "options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL",
            f"options.inter_op_num_threads = {settings.inter_op_threads}",
        ]
    if not settings.arena:
        lines.append("options.enable_cpu_mem_arena = False")
    if not settings.mem_pattern:
        lines.append("options.enable_mem_pattern = False")
    entries = config_entries(settings)
    return lines + [f'options.add_session_config_entry("{key}", "{value}")' for key, value in entries.items()]


def _python_level(level: str) -> list[str]:
    name = LEVELS.get(level, "ORT_ENABLE_ALL")
    return [f"options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.{name}"]


def cpp_lines(settings: SessionSettings, file: str) -> str:
    """A session in C++, `session`."""
    is_offline = settings.optimize == "offline"
    lines = ["Ort::Env env;", "Ort::SessionOptions options;", *_cpp_options(settings)]
    if is_offline:
        lines.append(f'// "{OFFLINE}" is written once, with options.SetOptimizedModelFilePath and {_level(settings)}')
    level = "ORT_DISABLE_ALL" if is_offline else _level(settings)
    lines.append(f"options.SetGraphOptimizationLevel({level});")
    spec = provider_spec(settings.provider)
    if spec.cpp:
        pairs = ", ".join(f"{{{json.dumps(key)}, {json.dumps(own)}}}" for key, own in _options(settings).items())
        lines += spec.cpp.replace("{options}", f"{{{pairs}}}").splitlines()
    path = json.dumps(OFFLINE if is_offline else file)
    return "\n".join([*lines, f"Ort::Session session(env, ORT_TSTR({path}), options);"])


def _cpp_options(settings: SessionSettings) -> list[str]:
    lines = []
    if settings.threads is not None:
        lines.append(f"options.SetIntraOpNumThreads({settings.threads});")
    if settings.execution_mode == "parallel":
        lines.append("options.SetExecutionMode(ORT_PARALLEL);")
        lines.append(f"options.SetInterOpNumThreads({settings.inter_op_threads});")
    if not settings.arena:
        lines.append("options.DisableCpuMemArena();")
    if not settings.mem_pattern:
        lines.append("options.DisableMemPattern();")
    entries = config_entries(settings)
    return lines + [f'options.AddConfigEntry("{key}", "{value}");' for key, value in entries.items()]


def _level(settings: SessionSettings) -> str:
    return LEVELS.get(settings.opt_level, "ORT_ENABLE_ALL")


def triton_lines(settings: SessionSettings) -> str:
    """The parts of a config.pbtxt; what the backend has no parameter for stands in a comment."""
    texts = {
        "intra_op_thread_count": settings.threads,
        "execution_mode": 1 if settings.execution_mode == "parallel" else None,
        "inter_op_thread_count": settings.inter_op_threads if settings.execution_mode == "parallel" else None,
        "enable_mem_arena": None if settings.arena else 0,
        "enable_mem_pattern": None if settings.mem_pattern else 0,
    }
    lines = [
        f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}'
        for key, value in texts.items()
        if value is not None
    ]
    inner = _triton_optimization(settings)
    if inner:
        lines.append(f"optimization {{ {' '.join(inner)} }}")
    lost = [f"{key}={value}" for key, value in config_entries(settings).items()]
    lines += [f"# Triton's onnxruntime backend has no parameter for {entry}" for entry in lost]
    if settings.optimize == "offline":
        lines.append(f"# model.onnx: the file that ONNX Runtime wrote, {OFFLINE} of the lines in Python")
    return "\n".join(lines)


def _triton_optimization(settings: SessionSettings) -> list[str]:
    level = "disabled" if settings.optimize == "offline" else settings.opt_level
    parts = [f"graph {{ level: {TRITON_LEVELS[level]} }}"] if level in TRITON_LEVELS else []
    device, _, name = provider_spec(settings.provider).triton.partition(" ")
    if name:
        pairs = "".join(
            f' parameters {{ key: "{key}" value: "{own}" }}' for key, own in settings.provider_options.items()
        )
        parts.append(f'execution_accelerators {{ {device}_execution_accelerator : [ {{ name : "{name}"{pairs} }} ] }}')
    return parts


def _providers(settings: SessionSettings) -> list[tuple[str, dict[str, str]]]:
    found = session_providers(settings.provider, settings.threads or 1, settings.provider_options)
    return [(found[0][0], _options(settings)), *found[1:]]


def _options(settings: SessionSettings) -> dict[str, str]:
    """The options of the provider, its CUDA graph among them."""
    spec = provider_spec(settings.provider)
    graph = spec.graph_options if settings.cuda_graph else None
    return {**spec.options(settings.threads or 1), **settings.provider_options, **(graph or {})}
