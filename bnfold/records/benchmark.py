"""What `bnfold bench` measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from bnfold.shown import Shown, picture_of

__all__ = [
    "BenchGate",
    "BenchLoss",
    "BenchPlacement",
    "BenchProfile",
    "BenchRatio",
    "BenchReport",
    "BenchRun",
    "GateVerdict",
    "Leaning",
    "MissingPeer",
    "PlacedNode",
    "ProfileEntry",
    "RatioVerdict",
]

RatioVerdict = Literal["faster", "slower", "tie", "undecided"]
Leaning = Literal["faster", "slower"]
GateVerdict = Literal["passed", "failed", "undecided"]


@dataclasses.dataclass(frozen=True)
class BenchRun:
    """One file in one cell of the grid; `n` timed calls, times in milliseconds, memory in MiB.

    `load_ms`, `first_ms` and `peak_mb` are the median of `n_starts` processes that loaded this file alone, None for a
    peer that has no file. `intervals` holds (low, high) in milliseconds of each percentile by the name of its field;
    a percentile that the count does not support is None, and has no interval. In the other modes than latency it holds
    one of `images_per_s`, too.

    `mode` is "latency" (one request after the other), "throughput" (`concurrency` requests at a time) or "open-loop"
    (requests arrive at random times, whether or not there is a free worker). `images_per_s` is what the mode measured.
    In the open loop, `rate_per_s` is the highest rate of requests that keeps p95 within `slo_p95_ms`, the median of the
    independent searches `rates_per_s`, 0 where no rate does; it is confirmed when every other search finds the same to
    10 % as those between (the second as the first, where there are two).

    `optimize` is "offline" where ONNX Runtime wrote its optimized file first. `end_to_end_ms` goes from NumPy to NumPy,
    the other times hold no copy between host and device. `cudnn_search_ms` is the part of `first_ms` that cuDNN's
    search for algorithms takes, None elsewhere than on CUDA. `sha256` covers the file and its external data, None for a
    peer that has no file.
    """

    name: str
    path: str
    provider: str
    batch: int
    n: int
    load_ms: float | None
    first_ms: float | None
    median_ms: float
    p95_ms: float | None
    images_per_s: float
    peak_mb: float | None
    threads: int | None = None
    opt_level: str = "all"
    input_shapes: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    p90_ms: float | None = None
    p99_ms: float | None = None
    intervals: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    n_starts: int = 0
    engine: str = "onnxruntime"
    mode: str = "latency"
    concurrency: int = 1
    optimize: str = "online"
    cuda_graph: bool = False
    end_to_end_ms: float | None = None
    cudnn_search_ms: float | None = None
    slo_p95_ms: float | None = None
    rate_per_s: float | None = None
    rates_per_s: tuple[float, ...] = ()
    rate_confirmed: bool | None = None
    sha256: str | None = None


@dataclasses.dataclass(frozen=True)
class BenchRatio:
    """time(a) / time(b) from interleaved runs, with its bootstrap interval; `tie` when the interval holds 1.

    `undecided`: the interval does not hold 1, but no winner is named; `leaning` says on which side it lies, and `note`
    why that is not enough: a noisy machine, too few session restarts.
    """

    a: str
    b: str
    batch: int
    ratio: float
    low: float
    high: float
    verdict: RatioVerdict
    provider: str | None = None
    threads: int | None = None
    opt_level: str = "all"
    input_shapes: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    note: str | None = None
    mode: str = "latency"
    concurrency: int = 1
    optimize: str = "online"
    cuda_graph: bool = False
    leaning: Leaning | None = None


@dataclasses.dataclass(frozen=True)
class BenchGate:
    """A limit on a time ratio, decided on its interval: `failed` when all of it lies above `limit` (1.03 for 3 %).

    `undecided`: there are too few runs for an interval, or nothing to compare with. The `note` says so, or what the
    ratio is of, that both files are one, or that the machine was noisy, which decides nothing.
    """

    name: str
    limit: float
    ratio: float
    low: float
    high: float
    verdict: GateVerdict
    note: str | None = None


@dataclasses.dataclass(frozen=True)
class BenchLoss:
    """What an output of a file says otherwise than the plain export of the source, on samples that calibrated no peer.

    `sqnr_db`: signal over noise in decibels; `agreement`: how often the largest class is the same, None where there are
    no classes. `value` of `metric` is the file's on labelled data, `plain` the plain export's; None without labels.
    """

    name: str
    output: str
    sqnr_db: float
    agreement: float | None
    metric: str | None = None
    value: float | None = None
    plain: float | None = None


@dataclasses.dataclass(frozen=True)
class MissingPeer:
    """A peer that was asked for and could not take part."""

    name: str
    reason: str
    remedy: str


@dataclasses.dataclass(frozen=True)
class PlacedNode:
    """A node that another provider took than the one asked for.

    `computes` is false where it writes no floating-point values: arithmetic on shapes.
    """

    name: str
    op_type: str
    provider: str
    computes: bool


@dataclasses.dataclass(frozen=True)
class BenchPlacement:
    """Which provider took the nodes of a file: counts by provider, None where ONNX Runtime does not tell."""

    name: str
    provider: str
    nodes: Mapping[str, int] | None
    elsewhere: tuple[PlacedNode, ...] = ()


@dataclasses.dataclass(frozen=True)
class ProfileEntry:
    """An operator or a layer: milliseconds in one run, its share of all nodes' time, and how many nodes it is."""

    name: str
    ms: float
    share: float
    n_nodes: int


@dataclasses.dataclass(frozen=True)
class BenchProfile:
    """Where the time of a file goes in one cell of the grid; `n` profiled runs, `run_ms` the median of one."""

    name: str
    provider: str
    batch: int
    threads: int
    opt_level: str
    optimize: str
    n: int
    run_ms: float
    operators: tuple[ProfileEntry, ...]
    layers: tuple[ProfileEntry, ...]


@dataclasses.dataclass(frozen=True, repr=False)
class BenchReport(Shown):
    """What `bnfold bench` measured; not `complete` where it was interrupted before the end of the plan."""

    environment: Mapping[str, Any]
    runs: tuple[BenchRun, ...]
    ratios: tuple[BenchRatio, ...]
    complete: bool = True
    gates: tuple[BenchGate, ...] = ()
    missing: tuple[MissingPeer, ...] = ()
    placements: tuple[BenchPlacement, ...] = ()
    profiles: tuple[BenchProfile, ...] = ()
    losses: tuple[BenchLoss, ...] = ()
    schema: ClassVar[str] = "bnfold.bench/1"
    json_constants: ClassVar[tuple[str, ...]] = ("schema",)

    def in_a_line(self) -> str:
        """The first ratio with its interval, or the first median, and how many more there are."""
        if self.ratios:
            first = self.ratios[0]
            ends = f"{first.low:.3f} to {first.high:.3f}"
            return f"{first.a} / {first.b}: {first.ratio:.3f} ({ends}), {first.verdict}{_and_more(self.ratios)}"
        if self.runs:
            return f"{self.runs[0].name}: {self.runs[0].median_ms:.4g} ms{_and_more(self.runs)}"
        return "nothing"

    def figure(self) -> Any:
        """The picture of the measurement: ratios with their intervals, how latencies are spread, latency over batch.

        Notebooks show it; it is SVG, which follows the page into the dark, and `.save(path)` writes .svg or .png.

        Raises:
            InputRefused: nothing was measured.
            EnvironmentNotReady: matplotlib is missing.
        """
        return picture_of(self)


def _and_more(listed: tuple[Any, ...]) -> str:
    return f" and {len(listed) - 1} more" if len(listed) > 1 else ""
