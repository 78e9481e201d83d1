"""Inference sessions on exactly the provider that was asked for."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.errors import BnfoldError, EnvironmentNotReady, InputRefused
from bnfold.runtime.cuda_libraries import cuda_fault, preload_cuda
from bnfold.runtime.machine import available_threads
from bnfold.runtime.packages import Provider, installed_builds, reinstall_line, require_onnxruntime
from bnfold.runtime.placement import computes, node_providers, output_types, record_placement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["PROVIDERS", "open_session", "require_onnx_file"]

PROVIDERS: Mapping[Provider, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
ERRORS_ONLY, NOTHING = 3, 4  # OrtLoggingLevel: 3 error, 4 fatal
NO_FALLBACK = "session.disable_cpu_ep_fallback"  # onnxruntime_session_options_config_keys.h
FALLBACK_REFUSED = "fallback to CPU EP has been explicitly disabled"  # ONNX Runtime's message for NO_FALLBACK
N_NAMED = 3  # nodes in an error
GRAPH_REFUSED = "graph capture"  # in all of ONNX Runtime's messages where it makes no CUDA graph

log = logging.getLogger("bnfold.runtime")


def require_onnx_file(path: Path) -> None:
    """Refuse what is no file, and say which `.onnx` files a folder holds.

    Raises:
        InputRefused: there is no such file, or it is a folder.
    """
    if path.is_dir():
        inside = sorted(each.name for each in path.glob("*.onnx"))
        best = "model.onnx" if "model.onnx" in inside else next(iter(inside), None)
        raise InputRefused(
            "the path is a folder",
            where=str(path),
            found=", ".join(inside[:N_NAMED]) + (" and more" if len(inside) > N_NAMED else "") + " in it"
            if inside
            else "no .onnx file in it",
            expected="an .onnx file",
            remedy=f"name the file: {path / best}" if best else "give the path of an .onnx file",
        )
    if not path.is_file():
        raise InputRefused("no such file", where=str(path), remedy="check the path")


def open_session(
    model: Path | bytes,
    *,
    provider: Provider = "cpu",
    threads: int | None = None,
    optimized: bool = True,
    provider_options: Mapping[str, str] | None = None,
    configure: Callable[[Any], None] | None = None,
    fallback: bool = False,
) -> Any:
    """Load a model into an `onnxruntime.InferenceSession`, on the asked provider or not at all.

    On "cuda" no node that computes may fall back to the CPU: a graph with one is refused. Arithmetic on shapes, in
    integers, runs there, where ONNX Runtime prefers it.

    Args:
        model: a file (external data is found beside it) or the bytes of a ModelProto.
        provider: where every node runs.
        threads: threads of one operator, None for `available_threads()`; operators run one after the other.
        optimized: ORT_ENABLE_ALL, else ORT_DISABLE_ALL.
        provider_options: options of the CUDA provider (onnxruntime.ai/docs/execution-providers).
        configure: changes the `SessionOptions` before they are used.
        fallback: on "cuda", let nodes that CUDA does not take run on the CPU.

    Raises:
        EnvironmentNotReady: ONNX Runtime is missing or doubled, or the provider does not load.
        InputRefused: ONNX Runtime does not accept the model, or cannot run all of it on CUDA.
    """
    ort = require_onnxruntime(provider)
    if provider == "cuda":
        _require_cuda(ort)
    elif provider != "cpu":
        raise ValueError(f"provider is {provider!r}, expected 'cpu' or 'cuda'")
    where = str(model) if isinstance(model, Path) else "the model in memory"
    if isinstance(model, Path):
        require_onnx_file(model)
    options = _session_options(ort, threads, optimized=optimized)
    if configure is not None:
        configure(options)
    if provider == "cuda" and not fallback:
        options.add_session_config_entry(NO_FALLBACK, "1")
    try:
        session = _load(ort, model, provider, options, provider_options)
    except Exception as error:
        if FALLBACK_REFUSED not in str(error):
            raise _load_error(ort, error, where, provider) from error
        options = _session_options(ort, threads, optimized=optimized)
        if configure is not None:
            configure(options)
        record_placement(options)
        session = _load(ort, model, provider, options, provider_options)
        _check_fallback(ort, session, model, where)
    if session.get_providers()[0] != PROVIDERS[provider]:
        raise _cuda_error(ort, f"the session fell back to {session.get_providers()[0]}")
    return session


def _session_options(ort: Any, threads: int | None, *, optimized: bool) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or available_threads()
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
    options.log_severity_level = ERRORS_ONLY if log.isEnabledFor(logging.DEBUG) else NOTHING
    return options


def _load(
    ort: Any, model: Path | bytes, provider: Provider, options: Any, provider_options: Mapping[str, str] | None
) -> Any:
    return ort.InferenceSession(
        str(model) if isinstance(model, Path) else model,
        sess_options=options,
        providers=[(PROVIDERS[provider], dict(provider_options or {}))],
        enable_fallback=0,
    )


def _require_cuda(ort: Any) -> None:
    """Refuse a build without CUDA; load the CUDA and cuDNN libraries of pip's packages, where there are any."""
    if PROVIDERS["cuda"] not in ort.get_available_providers():
        raise _provider_error("cuda", f"a build with {', '.join(ort.get_available_providers())}")
    if not log.isEnabledFor(logging.DEBUG):
        ort.set_default_logger_severity(NOTHING)  # the reason comes with our own error
    preload_cuda(ort)


def _provider_error(provider: Provider, found: str) -> EnvironmentNotReady:
    line = reinstall_line(list(installed_builds()), provider)
    driver = ", and check that nvidia-smi shows a GPU; --verbose prints the reason" if provider == "cuda" else ""
    return EnvironmentNotReady(
        f"the provider {PROVIDERS[provider]} does not load", found=found, remedy=f"run `{line}`{driver}"
    )


def _cuda_error(ort: Any, found: str) -> EnvironmentNotReady:
    """The error for a build with CUDA that does not load it: what this machine lacks, or else what was seen."""
    fault = cuda_fault(ort)
    if fault is None or fault.reinstall:
        return _provider_error("cuda", found if fault is None else fault.found)
    return EnvironmentNotReady(
        f"the provider {PROVIDERS['cuda']} does not load", found=fault.found,
        remedy=f"{fault.remedy}, or use --provider cpu",
    )  # fmt: skip


def _load_error(ort: Any, error: Exception, where: str, provider: Provider) -> BnfoldError:
    """Our error for one of ONNX Runtime's: the provider's fault or the model's."""
    message = str(error)
    words = message.replace(where, "").lower()  # a path may hold the word, too
    if GRAPH_REFUSED in words:
        return InputRefused(
            "ONNX Runtime makes no CUDA graph of it", where=where, found=message,
            remedy="export the file with static shapes, or leave out --cuda-graph",
        )  # fmt: skip
    if provider == "cuda" and "out of memory" in words:
        return EnvironmentNotReady(
            "the GPU's memory is full", where=where, found=message, remedy="end other work on the GPU"
        )
    if provider == "cuda" and ("cuda" in words or "cudnn" in words):
        return _cuda_error(ort, message)
    remedy = "check or re-export the file"
    if "NOT_IMPLEMENTED" in message:
        remedy = "this ONNX Runtime lacks the operator in that opset or type: convert the file (--opset, float32)"
    return InputRefused("ONNX Runtime does not load it", where=where, found=message, remedy=remedy)


def _check_fallback(ort: Any, session: Any, model: Path | bytes, where: str) -> None:
    """Refuse a session with nodes on the CPU: CUDA did not load, or does not take a node that computes."""
    if session.get_providers()[0] != PROVIDERS["cuda"]:
        raise _cuda_error(ort, "a CUDA build that loads no CUDA here")
    placed = node_providers(session)
    elsewhere = [(name, kind) for name, kind, place in placed or () if place != PROVIDERS["cuda"]]
    types = output_types(model)
    fell = [f"{name or 'unnamed'} ({kind})" for name, kind in elsewhere if computes(name, types)]
    if placed is None or fell:
        raise InputRefused(
            "some nodes do not run on CUDA, and none that computes may fall back to the CPU", where=where,
            found=", ".join(fell[:N_NAMED]) + f" and {len(fell) - N_NAMED} more" * (len(fell) > N_NAMED),
            remedy="export the file with static shapes, or use --provider cpu",
        )  # fmt: skip
