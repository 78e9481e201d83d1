"""Inference sessions on exactly the provider that was asked for."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.errors import BnfoldError, EnvironmentNotReady, InputRefused
from bnfold.runtime.machine import available_threads
from bnfold.runtime.packages import installed_builds, reinstall_line, require_onnxruntime
from bnfold.runtime.placement import computes, node_providers, output_types, record_placement
from bnfold.runtime.providers import chain, provider_spec, session_providers
from bnfold.runtime.settings import apply_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bnfold.records.tuning import SessionSettings
    from bnfold.runtime.providers import Provider, ProviderSpec

__all__ = ["open_session", "require_onnx_file"]

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
        EnvironmentNotReady: its name is not UTF-8.
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
    _require_utf8(path)


def _require_utf8(path: Path) -> None:
    """Refuse a name that Python read in another encoding than UTF-8, which is the one that ONNX Runtime reads."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as error:
        raise EnvironmentNotReady(
            "the path holds bytes that are no text in this locale, and ONNX Runtime cannot open it",
            where=str(path),
            found=f"file names in {sys.getfilesystemencoding()}",
            expected="UTF-8",
            remedy="set PYTHONUTF8=1 or a UTF-8 locale (LC_ALL=C.UTF-8), or use ASCII names",
        ) from error


def open_session(
    model: Path | bytes,
    *,
    provider: Provider = "cpu",
    threads: int | None = None,
    optimized: bool = True,
    provider_options: Mapping[str, str] | None = None,
    configure: Callable[[Any], None] | None = None,
    exact: bool = False,
    fallback: bool = False,
    settings: SessionSettings | None = None,
) -> Any:
    """Load a model into an `onnxruntime.InferenceSession`, on the asked provider or not at all.

    Of a provider that is not the CPU's no node that computes may fall back to the CPU: a graph with one is refused.
    Arithmetic on shapes, in integers, runs there, where ONNX Runtime prefers it.

    Args:
        model: a file (external data is found beside it) or the bytes of a ModelProto.
        provider: where every node runs.
        threads: threads of one operator, None for `available_threads()`; operators run one after the other.
        optimized: ORT_ENABLE_ALL, else ORT_DISABLE_ALL.
        provider_options: of the provider, besides its own (onnxruntime.ai/docs/execution-providers).
        configure: changes the `SessionOptions` before they are used.
        exact: compute float32 as float32, to 24 bits.
        fallback: let nodes that the provider does not take run on the CPU.
        settings: the rest of the options, but for provider, threads and level, which are arguments of their own.

    Raises:
        EnvironmentNotReady: ONNX Runtime is missing or doubled, or the provider does not load.
        InputRefused: ONNX Runtime does not accept the model, or cannot run all of it on the provider.
        ValueError: there is no such provider.
    """
    spec = provider_spec(provider)
    ort = require_onnxruntime(provider)
    for each in chain(provider):
        _make_ready(ort, each)
    where = str(model) if isinstance(model, Path) else "the model in memory"
    if isinstance(model, Path):
        require_onnx_file(model)
    threads = threads or available_threads()
    given = {**(settings.provider_options if settings is not None else {}), **(provider_options or {})}
    asked = session_providers(provider, threads, given, exact=exact)

    def made() -> Any:
        options = _session_options(ort, spec, threads, optimized=optimized)
        if settings is not None:
            apply_settings(ort, options, settings)
        if configure is not None:
            configure(options)
        return options

    options = made()
    if spec.falls_back and not fallback:
        options.add_session_config_entry(NO_FALLBACK, "1")
    try:
        session = _load(ort, model, options, asked)
    except Exception as error:
        if FALLBACK_REFUSED not in str(error):
            raise _load_error(ort, error, where, spec) from error
        options = made()
        record_placement(options)
        session = _load(ort, model, options, asked)
        _check_fallback(ort, session, model, where, spec)
    if session.get_providers()[0] != spec.ort_name:
        raise _not_loaded(ort, spec, f"the session fell back to {session.get_providers()[0]}")
    return session


def _session_options(ort: Any, spec: ProviderSpec, threads: int, *, optimized: bool) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
    options.log_severity_level = ERRORS_ONLY if log.isEnabledFor(logging.DEBUG) else NOTHING
    for key, value in spec.session_entries.items():
        options.add_session_config_entry(key, value)
    return options


def _load(ort: Any, model: Path | bytes, options: Any, providers: list[tuple[str, dict[str, str]]]) -> Any:
    return ort.InferenceSession(
        str(model) if isinstance(model, Path) else model,
        sess_options=options,
        providers=providers,
        enable_fallback=0,
    )


def _make_ready(ort: Any, spec: ProviderSpec) -> None:
    """Refuse a build without the provider; load what it needs besides."""
    if spec.ort_name not in ort.get_available_providers():
        raise _reinstall(spec, f"a build with {', '.join(ort.get_available_providers())}")
    if spec.falls_back and not log.isEnabledFor(logging.DEBUG):
        ort.set_default_logger_severity(NOTHING)  # the reason comes with our own error
    if spec.prepare is not None:
        spec.prepare(ort)


def _reinstall(spec: ProviderSpec, found: str) -> EnvironmentNotReady:
    line = reinstall_line(list(installed_builds()), spec.name)
    return EnvironmentNotReady(
        f"the provider {spec.ort_name} does not load", found=found, remedy=f"run `{line}`{spec.advice}"
    )


def _not_loaded(ort: Any, spec: ProviderSpec, found: str) -> EnvironmentNotReady:
    """The error for a build with a provider that does not load it: what this machine lacks, or else what was seen."""
    fault = spec.fault(ort)
    if fault is None or fault.reinstall:
        return _reinstall(spec, found if fault is None else fault.found)
    return EnvironmentNotReady(
        f"the provider {spec.ort_name} does not load", found=fault.found,
        remedy=f"{fault.remedy}, or use --provider cpu",
    )  # fmt: skip


def _load_error(ort: Any, error: Exception, where: str, spec: ProviderSpec) -> BnfoldError:
    """Our error for one of ONNX Runtime's: the provider's fault or the model's."""
    message = str(error)
    words = message.replace(where, "").lower()  # a path may hold the word, too
    if GRAPH_REFUSED in words:
        return InputRefused(
            "ONNX Runtime makes no CUDA graph of it", where=where, found=message,
            remedy="export the file with static shapes, or leave out --cuda-graph",
        )  # fmt: skip
    if not spec.on_host and "out of memory" in words:
        return EnvironmentNotReady(
            "the GPU's memory is full", where=where, found=message, remedy="end other work on the GPU"
        )
    if any(word in words for word in spec.own_words):
        return _not_loaded(ort, spec, message)
    remedy = "check or re-export the file"
    if "NOT_IMPLEMENTED" in message:
        remedy = "this ONNX Runtime lacks the operator in that opset or type: convert the file (--opset, float32)"
    return InputRefused("ONNX Runtime does not load it", where=where, found=message, remedy=remedy)


def _check_fallback(ort: Any, session: Any, model: Path | bytes, where: str, spec: ProviderSpec) -> None:
    """Refuse a session with nodes on the CPU: the provider did not load, or does not take a node that computes."""
    if session.get_providers()[0] != spec.ort_name:
        raise _not_loaded(ort, spec, f"a {spec.label} build that loads no {spec.label} here")
    placed = node_providers(session)
    own = {each.ort_name for each in chain(spec.name)}
    elsewhere = [(name, kind) for name, kind, place in placed or () if place not in own]
    types = output_types(model)
    fell = [f"{name or 'unnamed'} ({kind})" for name, kind in elsewhere if computes(name, types)]
    if placed is None or fell:
        raise InputRefused(
            f"some nodes do not run on {spec.label}, and none that computes may fall back to the CPU", where=where,
            found=", ".join(fell[:N_NAMED]) + f" and {len(fell) - N_NAMED} more" * (len(fell) > N_NAMED),
            remedy="export the file with static shapes, or use --provider cpu",
        )  # fmt: skip
