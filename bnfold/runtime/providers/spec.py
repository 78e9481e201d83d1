"""What the rest of bnfold must know of an execution provider of ONNX Runtime, in one record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

__all__ = ["Fault", "Provider", "ProviderSpec"]

Provider: TypeAlias = str
"""The name of a provider on the command line and in Python: that of a `ProviderSpec`."""


@dataclass(frozen=True)
class Fault:
    """Why a provider cannot work here, and what to do about it; `reinstall` where a package of pip is missing."""

    found: str
    remedy: str
    reinstall: bool = False


def _no_options(_threads: int) -> Mapping[str, str]:
    return {}


def _no_fault(_ort: Any) -> Fault | None:
    return None


def _no_facts() -> Mapping[str, Any]:
    return {}


def _no_session_facts(_ort: Any, _options: Mapping[str, str]) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class ProviderSpec:
    """A provider. `docs/extending.md` has one as an example.

    What it is:
        name: on the command line and in Python.
        ort_name: ONNX Runtime's name of it.
        label: in sentences: "some nodes do not run on CUDA".
        extra: the extra of bnfold that installs a build of ONNX Runtime with it.
        device: where its tensors lie, as `OrtValue` and `torch.device` name it; "cpu" is the host's memory.
        channel_block: how many channels its kernels compute at a time: dead channels leave in blocks of as many. None
            is the fold's own number, that of ONNX Runtime's CPU kernels (`bnfold.folding.CHANNEL_BLOCK`).
        ones_limit: multiply-adds for each pixel that its kernels do in the time of the nodes that normalise an image
            (`bnfold.folding.preprocessing`); None where that was not measured.

    How sessions are opened:
        options: provider options of every session, by its number of threads.
        behind: other providers, by name, that take in this order the nodes that it leaves; the CPU's is no such one.
        session_entries: configuration entries of `SessionOptions` (onnxruntime_session_options_config_keys.h).
        prepare: called with the package `onnxruntime` before a session is opened; loads libraries, for instance.
        exact_options: provider options with which float32 is computed as float32, to 24 bits.
        graph_options: those with which the launches of its kernels are captured once and replayed; None where it has
            no such thing.
        unsearched_options: those without the search for algorithms that the first run makes; None where it makes none.
        tf32_options: those with which float32 is rounded to TF32; None where there is no such option.
        tuned_options: those that `bnfold tune` tries, one after the other, with each on its own.
        cpp: the C++ that appends it to `options`, a line each; `{options}` stands for its options as pairs of texts.
        wheel: the requirement of pip that installs ONNX Runtime with it in a server, "" where pip has no such package.
        triton: its place in the optimization section of Triton's config.pbtxt ("gpu tensorrt"), "" for none.

    How it is proven that it ran:
        falls_back: whether ONNX Runtime gives nodes that it does not take to the CPU. A session then forbids that, or,
            where arithmetic on shapes alone may run there, each node's placement is asked for. Nodes on providers
            `behind` it have not fallen back.
        rounds_to_tf32: whether float32 may be rounded to TF32, by the options of a session; None where there is no
            TF32.

    What is said of it:
        fault: what this machine lacks, asked with the package `onnxruntime` when no session can be opened.
        own_words: words of ONNX Runtime's errors, in small letters, that tell of the provider and not of the model.
        advice: what else the remedy of a provider that does not load says.
        device_facts: of the device, for the environment of a report.
        session_facts: of its libraries and options, with the package `onnxruntime` and the options of a session.
    """

    name: Provider
    ort_name: str
    label: str
    extra: str
    device: str = "cpu"
    channel_block: int | None = None
    ones_limit: int | None = None
    options: Callable[[int], Mapping[str, str]] = _no_options
    behind: tuple[Provider, ...] = ()
    session_entries: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Any], object] | None = None
    exact_options: Mapping[str, str] = field(default_factory=dict)
    graph_options: Mapping[str, str] | None = None
    unsearched_options: Mapping[str, str] | None = None
    tf32_options: Mapping[str, str] | None = None
    tuned_options: tuple[Mapping[str, str], ...] = ()
    cpp: str = ""
    wheel: str = ""
    triton: str = ""
    falls_back: bool = True
    rounds_to_tf32: Callable[[Mapping[str, str]], bool] | None = None
    fault: Callable[[Any], Fault | None] = _no_fault
    own_words: tuple[str, ...] = ()
    advice: str = ""
    device_facts: Callable[[], Mapping[str, Any]] = _no_facts
    session_facts: Callable[[Any, Mapping[str, str]], Mapping[str, Any]] = _no_session_facts

    @property
    def on_host(self) -> bool:
        """Whether its tensors lie in the host's memory."""
        return self.device == "cpu"
