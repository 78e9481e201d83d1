"""How a session is set up, and what `bnfold tune` found out about that: what session.json holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

from bnfold.records.benchmark import Leaning, RatioVerdict
from bnfold.shown import Shown

__all__ = [
    "ColdStarts",
    "ExecutionMode",
    "GraphLevel",
    "SessionSettings",
    "TriedOption",
    "TuneReport",
    "TunedFile",
    "TunedTime",
]

ExecutionMode = Literal["sequential", "parallel"]
GraphLevel = Literal["disabled", "basic", "extended", "all"]
OptionOutcome = Literal[
    "recommended", "faster", "tie", "slower", "undecided", "unconfirmed", "dropped", "refused", "implied"
]


@dataclasses.dataclass(frozen=True)
class SessionSettings:
    """The options of a session of ONNX Runtime; each default is bnfold's own.

    Attributes:
        provider: by bnfold's name of it.
        threads: of one operator, None for the CPUs that the process may use.
        execution_mode: whether operators run one after the other, or those that can at the same time, and
        inter_op_threads: on how many threads then.
        spinning: whether threads that wait keep their CPU busy, to answer at once.
        arena: whether memory that was used once is kept, and
        mem_pattern: whether that of a run is planned from the run before, as one block.
        denormals_as_zero: whether numbers below the normal ones are computed as 0: on the main thread only where the
            first session of a process says so.
        opt_level: how far the graph may be changed, but for
        disabled_optimizers: those that may not, by ONNX Runtime's names.
        optimize: when it is changed: as the file is loaded, or once, in a file written before ("offline").
        cuda_graph: whether the launches of kernels are captured and replayed.
        provider_options: of the provider, by its own names, besides what bnfold gives it.
    """

    provider: str = "cpu"
    threads: int | None = None
    execution_mode: ExecutionMode = "sequential"
    inter_op_threads: int = 1
    spinning: bool = True
    arena: bool = True
    mem_pattern: bool = True
    denormals_as_zero: bool = False
    opt_level: GraphLevel = "all"
    disabled_optimizers: tuple[str, ...] = ()
    optimize: Literal["online", "offline"] = "online"
    cuda_graph: bool = False
    provider_options: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def changes(self, other: SessionSettings) -> dict[str, Any]:
        """The fields that differ from another's, with the values here."""
        names = [field.name for field in dataclasses.fields(self)]
        return {name: getattr(self, name) for name in names if getattr(self, name) != getattr(other, name)}

    def name(self, other: SessionSettings) -> str:
        """What differs from another's in words, "default" where nothing does: "threads=1, spinning off"."""
        return ", ".join(_words(key, value) for key, value in self.changes(other).items()) or "default"


CHOICES: Mapping[str, tuple[str, ...]] = {
    "execution_mode": get_args(ExecutionMode), "opt_level": get_args(GraphLevel), "optimize": ("online", "offline"),
}  # fmt: skip
"""The words that a field may hold."""


def _words(key: str, value: Any) -> str:
    """One option: "spinning off", "threads=1", "use_tf32=0", "without NchwcTransformer"."""
    if isinstance(value, bool):
        return f"{key} {'on' if value else 'off'}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={own}" for name, own in value.items())
    if isinstance(value, tuple):
        return f"without {' and '.join(value)}"
    return f"{key}={value}"


@dataclasses.dataclass(frozen=True)
class TriedOption:
    """A change of the default session, time(changed) / time(default) from interleaved runs, and what came of it.

    `outcome`: `recommended`; `faster`, but another is better; `tie` and `slower`, as the interval says; `undecided`,
    where the machine was too noisy to say; `unconfirmed`, faster in the last round of the halving and not in the period
    behind it; `dropped` behind a round in which it was not among the faster half, or behind its first runs;
    `refused`, for `reason`: its numbers, or a session that does not open; `implied`: it changes nothing in this file,
    and was not measured. `rounds`: how many rounds of the halving it took part in.
    """

    name: str
    settings: Mapping[str, Any]
    outcome: OptionOutcome
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    leaning: Leaning | None = None
    rounds: int = 0
    reason: str | None = None


@dataclasses.dataclass(frozen=True)
class TunedTime:
    """The steady state: time(recommended) / time(default) of the confirming measurement, which chooses nothing."""

    ratio: float
    low: float
    high: float
    verdict: RatioVerdict
    median_ms: float
    default_ms: float
    note: str | None = None


@dataclasses.dataclass(frozen=True)
class ColdStarts:
    """From the file to the first answer in a fresh process, in milliseconds; the ratio is that of pairs of starts.

    `peak_mb` and `default_peak_mb`: growth of memory in MiB.
    """

    load_ms: float
    first_ms: float
    peak_mb: float
    default_load_ms: float
    default_first_ms: float
    default_peak_mb: float
    n_starts: int
    ratio: float
    low: float
    high: float
    verdict: RatioVerdict


@dataclasses.dataclass(frozen=True)
class TunedFile:
    """What is fastest for one file on this machine.

    `session` is the default wherever nothing else is better by its whole interval. `ties`: the changes that are not to
    be told from it. `lines`: what sets it, in Python, in C++ and in Triton's config.pbtxt.
    """

    name: str
    path: str
    sha256: str | None
    batch: int
    input_shapes: Mapping[str, tuple[int, ...]]
    default: SessionSettings
    session: SessionSettings
    steady: TunedTime
    cold_start: ColdStarts | None
    ties: tuple[str, ...]
    options: tuple[TriedOption, ...]
    lines: Mapping[str, str]
    n_measured: int
    mode: str = "latency"
    concurrency: int = 1
    seconds: float = 0.0

    @property
    def is_default(self) -> bool:
        """Whether nothing was better than the default session."""
        return self.session == self.default


@dataclasses.dataclass(frozen=True, repr=False)
class TuneReport(Shown):
    """What `bnfold tune` found, for each file; `machine` holds what it depends on."""

    machine: Mapping[str, Any]
    files: tuple[TunedFile, ...]
    schema: ClassVar[str] = "bnfold.tune/1"
    json_constants: ClassVar[tuple[str, ...]] = ("schema",)

    def in_a_line(self) -> str:
        """The first file's session with its gain, and how many more there are."""
        first = self.files[0]
        more = f" and {len(self.files) - 1} more" if len(self.files) > 1 else ""
        ends = f"{first.steady.ratio:.3f} ({first.steady.low:.3f} to {first.steady.high:.3f})"
        return f"{first.name}: {first.session.name(first.default)}, {ends} of the default's time{more}"
