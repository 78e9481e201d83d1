"""The facts that bnfold reports, as frozen dataclasses; `as_json` gives the public JSON form of each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

__all__ = [
    "BenchGate",
    "BenchRatio",
    "BenchReport",
    "BenchRun",
    "Check",
    "Coverage",
    "Departure",
    "DoctorReport",
    "Execution",
    "FoldExportReport",
    "GraphFacts",
    "InputSpec",
    "InspectReport",
    "LayerStatistics",
    "Ledger",
    "LedgerEntry",
    "MeasuredChoice",
    "MissingPeer",
    "OutputFacts",
    "OutputVerdict",
    "RecalibrationReport",
    "SourceFacts",
    "StoredParameters",
    "TrainPlan",
    "TrainReport",
    "Verdict",
    "as_json",
]

MAX_SCALE = 1e3
MIN_VARIANCE_OVER_EPSILON = 10.0
# The weight of the initial statistics from which on a moving average is called unfinished, and the shift of a mean, in
# deviations, from which on statistics are called stale.
MAX_INITIAL_SHARE = 0.01
MAX_MEAN_DRIFT = 0.25

Outcome = Literal["absorbed", "merged", "removed", "kept"]
CheckStatus = Literal["ok", "missing", "broken"]
RatioVerdict = Literal["faster", "slower", "tie"]
GateVerdict = Literal["passed", "failed", "undecided"]


def as_json(record: Any) -> Any:
    """Turn a record into plain JSON values: dataclasses to dicts, tuples to lists, NaN and infinity to null.

    A record may name properties in `json_properties` and class constants in `json_constants` that belong to its JSON.
    """
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        names = [
            *getattr(record, "json_constants", ()),
            *(field.name for field in dataclasses.fields(record)),
            *getattr(record, "json_properties", ()),
        ]
        return {name: as_json(getattr(record, name)) for name in names}
    if isinstance(record, Mapping):
        return {str(key): as_json(value) for key, value in record.items()}
    if isinstance(record, (list, tuple)):
        return [as_json(value) for value in record]
    if isinstance(record, Path):
        return str(record)
    if isinstance(record, float) and not math.isfinite(record):
        return None
    return record


def _few(names: Sequence[str], n: int = 3) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return ", ".join(names[:n]) + more


@dataclasses.dataclass(frozen=True)
class InputSpec:
    """One input of a network: its name, its shape with None on dynamic axes, its NumPy dtype name ("float32").

    Axis 0 is the batch: `batch_dynamic` says whether it may take any length.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    @property
    def batch_dynamic(self) -> bool:
        """Whether axis 0 may take any length."""
        return bool(self.shape) and self.shape[0] is None

    def with_batch(self, batch: int) -> tuple[int, ...]:
        """The shape at a given batch; other dynamic axes are refused.

        Raises:
            ValueError: an axis other than the batch is dynamic.
        """
        if any(size is None for size in self.shape[1:]):
            raise ValueError(f"input {self.name} has dynamic axes besides the batch: {self.shape}")
        rest = tuple(size for size in self.shape[1:] if size is not None)
        if not self.shape:
            return ()
        return (batch if self.shape[0] is None else self.shape[0], *rest)


@dataclasses.dataclass(frozen=True)
class LedgerEntry:
    """What happened to one BatchNorm of the source.

    `into` names the operators whose weights took it; `reason` says why a kept one stayed. Scales `s` and variances
    are those of `y = s x + t`, `s = gamma / sqrt(var + eps)`. `fresh`: mean 0 and variance 1 throughout, as before any
    training.
    """

    name: str
    outcome: Outcome
    into: tuple[str, ...]
    reason: str | None
    max_abs_scale: float
    min_var_over_eps: float
    n_dead_channels: int
    fresh: bool = False


@dataclasses.dataclass(frozen=True)
class MeasuredChoice:
    """A rewrite that is taken only where it was measured faster; median milliseconds of one interleaved run."""

    rewrite: str
    taken: bool
    provider: str
    with_ms: float
    without_ms: float
    ratio: float
    low: float
    high: float
    verdict: RatioVerdict


@dataclasses.dataclass(frozen=True)
class Ledger:
    """Every BatchNorm of the source, exactly once, in the graph's order.

    `beyond_float16` names the folded parameters that a conversion to float16 would overflow. `measured` is the choice
    that a measurement decided, None where nothing was measured.
    """

    entries: tuple[LedgerEntry, ...]
    beyond_float16: tuple[str, ...] = ()
    measured: MeasuredChoice | None = None
    json_properties: ClassVar[tuple[str, ...]] = ("found", "absorbed", "merged", "removed", "kept", "warnings")

    def count(self, outcome: Outcome) -> int:
        """How many entries ended as `outcome`."""
        return sum(entry.outcome == outcome for entry in self.entries)

    @property
    def found(self) -> int:
        """The number of BatchNorms in the source."""
        return len(self.entries)

    @property
    def absorbed(self) -> int:
        """BatchNorms that vanished into the weights around them."""
        return self.count("absorbed")

    @property
    def merged(self) -> int:
        """BatchNorms that vanished with the parallel branches they stood in."""
        return self.count("merged")

    @property
    def removed(self) -> int:
        """BatchNorms on dead channels or unused values."""
        return self.count("removed")

    @property
    def kept(self) -> int:
        """BatchNorms that stayed, each with its reason."""
        return self.count("kept")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is badly conditioned in the source's BatchNorms, and in the folded parameters, one sentence each."""
        steep = [entry.name for entry in self.entries if entry.max_abs_scale > MAX_SCALE]
        flat = [entry.name for entry in self.entries if entry.min_var_over_eps < MIN_VARIANCE_OVER_EPSILON]
        fresh = [entry.name for entry in self.entries if entry.fresh]
        sentences = (
            (fresh, "mean 0 and variance 1, as before any training: load weights, or nothing said here holds for them"),
            (steep, f"scale above {MAX_SCALE:g}: rounding errors of the input grow as much"),
            (flat, f"running variance below {MIN_VARIANCE_OVER_EPSILON:g} epsilon: epsilon decides the scale"),
            (list(self.beyond_float16), "beyond the range of float16: keep the file in float32"),
        )
        return tuple(f"{_few(names)}: {text}" for names, text in sentences if names)


@dataclasses.dataclass(frozen=True)
class SourceFacts:
    """The source as the user named it; `sha256` covers the parameters and buffers (the file's bytes for .onnx)."""

    spec: str
    sha256: str
    n_parameters: int


@dataclasses.dataclass(frozen=True)
class OutputFacts:
    """The written file; `path` is relative to the report's folder."""

    path: str
    sha256: str
    opset: int
    ir_version: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class GraphFacts:
    """Node and multiply-add counts; the latter at batch 1, None where a shape is unknown."""

    nodes_before: int
    nodes_after: int
    batchnorm_after: int
    macs_before: int | None
    macs_after: int | None


@dataclasses.dataclass(frozen=True)
class OutputVerdict:
    """Errors of one output against float64: root mean square relative to nothing, in the output's own units."""

    name: str
    e_source: float
    e_output: float
    allowed: float


@dataclasses.dataclass(frozen=True)
class Departure:
    """The first layer of a file that computes something else than its source.

    `layer` is its name in the user's model; `operator` and `value` are the file's node and what it writes. Errors are
    root mean squares in float64, relative to the value's size: of the value, and the largest of its inputs'.
    `source_layers` are the layers of the source that it stands for, `reproduction` the folder that shows it.
    """

    layer: str
    operator: str
    value: str
    error: float
    inputs_error: float
    compared_with: str
    source_layers: tuple[str, ...] = ()
    reproduction: str | None = None

    def sentence(self) -> str:
        """One clause for a message."""
        size = f"error {self.error:.2g} of its size" if math.isfinite(self.error) else "not comparable at all"
        return (
            f"it first departs in layer {self.layer} ({self.operator}, value {self.value}): {size}, its inputs' "
            f"{self.inputs_error:.2g}, against {self.compared_with}"
        )


@dataclasses.dataclass(frozen=True)
class Coverage:
    """Channels behind activations, and how many of them gave one and the same value for every input, by layer."""

    channels: int
    never_active: int
    layers: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class StoredParameters:
    """Parameters of the file against those of a fold made anew; `max_ulps` in units of the last stored place."""

    compared: int
    max_ulps: float


@dataclasses.dataclass(frozen=True)
class Execution:
    """How one session ran the file.

    `optimizations` is "off" or "all". `nodes` counts the nodes by the provider they were given to, None where this
    ONNX Runtime does not tell. `tf32` says whether CUDA may round to TF32, None on other providers.
    """

    optimizations: str
    nodes: Mapping[str, int] | None
    tf32: bool | None = None


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The result of the comparison; true when it passed. `failure` is the sentence that says why it did not.

    `departure` is where it went wrong, None where it passed or could not be localised. `sizes` holds the shapes of a
    row that each input was compared at. `coverage` and `parameters` are None where they are not known, which is one of
    the `warnings` if it leaves something unproven.
    """

    passed: bool
    n_compared: int
    providers: tuple[str, ...]
    batches: tuple[int, ...]
    outputs: tuple[OutputVerdict, ...]
    reference: str
    failure: str | None = None
    departure: Departure | None = None
    sizes: Mapping[str, tuple[tuple[int, ...], ...]] = dataclasses.field(default_factory=dict)
    coverage: Coverage | None = None
    parameters: StoredParameters | None = None
    executions: tuple[Execution, ...] = ()
    warnings: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.passed


@dataclasses.dataclass(frozen=True)
class FoldExportReport:
    """What `bnfold fold-export` did; `seconds` holds load, export, fold, simplify, verify."""

    passed: bool
    source: SourceFacts
    output: OutputFacts | None
    ledger: Ledger
    graph: GraphFacts
    verify: Verdict
    seconds: Mapping[str, float]
    schema: ClassVar[str] = "bnfold.fold-export/1"
    json_constants: ClassVar[tuple[str, ...]] = ("schema",)


@dataclasses.dataclass(frozen=True)
class InspectReport:
    """What `bnfold inspect` found: the ledger that fold-export would report."""

    source: SourceFacts
    ledger: Ledger
    schema: ClassVar[str] = "bnfold.inspect/1"
    json_constants: ClassVar[tuple[str, ...]] = ("schema",)


@dataclasses.dataclass(frozen=True)
class BenchRun:
    """One file in one cell of the grid; `n` timed calls, times in milliseconds, memory in MiB.

    `load_ms`, `first_ms` and `peak_mb` are the median of `n_starts` processes that loaded this file alone, None for a
    peer that has no file. `intervals` holds (low, high) in milliseconds of each percentile by the name of its field;
    a percentile that the count does not support is None, and has no interval.

    `mode` is "latency" (one request after the other), "throughput" (`concurrency` requests at a time) or "open-loop"
    (requests arrive at random times, whether or not there is a free worker). `images_per_s` is what the mode measured.
    In the open loop, `rate_per_s` is the highest rate of requests that keeps p95 within `slo_p95_ms`, the median of the
    independent searches `rates_per_s`, 0 where no rate does; it is confirmed when every other search finds the same to
    10 % as those between (the second as the first, where there are two).

    `optimize` is "offline" where ONNX Runtime wrote its optimized file first. `end_to_end_ms` goes from NumPy to NumPy,
    the other times hold no copy between host and device. `cudnn_search_ms` is the part of `first_ms` that cuDNN's
    search for algorithms takes, None elsewhere than on CUDA.
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


@dataclasses.dataclass(frozen=True)
class BenchRatio:
    """time(a) / time(b) from interleaved runs, with its bootstrap interval; `tie` when the interval holds 1.

    A `note` says why no winner is named although the interval does not hold 1: a noisy machine, too few loads.
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


@dataclasses.dataclass(frozen=True)
class BenchGate:
    """A limit on a time ratio, decided on its interval: `failed` when all of it lies above `limit` (1.03 for 3 %).

    `undecided` has a `note` that says why: the machine was noisy, the runs too few.
    """

    name: str
    limit: float
    ratio: float
    low: float
    high: float
    verdict: GateVerdict
    note: str | None = None


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


@dataclasses.dataclass(frozen=True)
class BenchReport:
    """What `bnfold bench` measured; not `complete` where it was interrupted before the end of the plan."""

    environment: Mapping[str, Any]
    runs: tuple[BenchRun, ...]
    ratios: tuple[BenchRatio, ...]
    complete: bool = True
    gates: tuple[BenchGate, ...] = ()
    missing: tuple[MissingPeer, ...] = ()
    placements: tuple[BenchPlacement, ...] = ()
    profiles: tuple[BenchProfile, ...] = ()
    schema: ClassVar[str] = "bnfold.bench/1"
    json_constants: ClassVar[tuple[str, ...]] = ("schema",)


@dataclasses.dataclass(frozen=True)
class TrainReport:
    """What `bnfold train` did.

    `run` is the run folder; `metrics` holds `train_loss` and the metrics of `val` and `test` after the last epoch;
    `goal` names the one that matters; `split_sizes` counts the samples of train, val and test; `weights_sha256` is
    that of model.safetensors; `seconds` holds load and train; `epochs` names the last one (`done`), the one that was
    best on the validation split, and the one whose weights are kept; `processes` counts those that trained together.
    """

    run: Path
    model: str
    seed: int
    n_parameters: int
    goal: str
    metrics: Mapping[str, Any]
    recipe: Mapping[str, Any]
    split_sizes: Mapping[str, int]
    weights_sha256: str
    seconds: Mapping[str, float]
    epochs: Mapping[str, int] = dataclasses.field(default_factory=dict)
    processes: int = 1
    schema: ClassVar[str] = "bnfold.train/1"
    json_constants: ClassVar[tuple[str, ...]] = ("schema",)


@dataclasses.dataclass(frozen=True)
class LayerStatistics:
    """The running statistics of one BatchNorm, those found against those measured anew.

    `mean_drift` is the root mean square over the channels of (new - old) / sqrt(new variance + epsilon),
    `variance_ratio` the largest ratio of the variances (with epsilon), either way up. `untouched`: mean 0, variance 1
    throughout, or no batch tracked. `initial_share` is the weight that these initial values still have in the moving
    average. `n_near_eps` counts channels whose epsilon decides the scale; `dropouts` names what drops in front of it;
    `n_gamma_zero` counts channels with gamma = 0, `n_gamma_small` those below 1 % of the layer's largest. It is not
    `reached` if the network does not call it.
    """

    name: str
    n_channels: int
    reached: bool
    mean_drift: float
    variance_ratio: float
    untouched: bool
    initial_share: float
    min_var_over_eps: float
    n_near_eps: int
    dropouts: tuple[str, ...]
    n_gamma_zero: int
    n_gamma_small: int


@dataclasses.dataclass(frozen=True)
class RecalibrationReport:
    """What `bnfold recalibrate` did.

    `mode` is "pooled", "layerwise" or "adapt"; `data` names what the statistics were measured on. `before` and `after`
    hold the task's metrics on the run's own test split; `target_before` and `target_after` the metrics on the target of
    an adaptation, with `entropy`, the mean entropy of the predictions in nats; empty otherwise. `written` is False for
    a dry run. `json_properties` adds the `warnings`.
    """

    source: Path
    run: Path
    written: bool
    mode: str
    data: str
    prior: float
    n_samples: int
    n_batches: int
    goal: str
    before: Mapping[str, float]
    after: Mapping[str, float]
    target_before: Mapping[str, float]
    target_after: Mapping[str, float]
    layers: tuple[LayerStatistics, ...]
    weights_sha256: str | None
    seconds: float
    schema: ClassVar[str] = "bnfold.recalibrate/1"
    json_constants: ClassVar[tuple[str, ...]] = ("schema",)
    json_properties: ClassVar[tuple[str, ...]] = ("warnings",)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was wrong with the statistics that were found, and what still is, one sentence each."""
        unfinished = [one for one in self.layers if not one.untouched and one.initial_share > MAX_INITIAL_SHARE]
        drops = sorted({name for one in self.layers for name in one.dropouts})
        findings = (
            ([one.name for one in self.layers if one.untouched], "the statistics were untouched: mean 0, variance 1"),
            ([one.name for one in unfinished], "too few updates for its momentum: initial values were still in them"),
            (
                [one.name for one in self.layers if one.mean_drift > MAX_MEAN_DRIFT],
                f"the mean was off by more than {MAX_MEAN_DRIFT:g} deviations",
            ),
            (
                [one.name for one in self.layers if one.n_near_eps],
                f"channels with a variance below {MIN_VARIANCE_OVER_EPSILON:g} epsilon: epsilon decides the scale",
            ),
            (
                [one.name for one in self.layers if one.dropouts],
                f"behind dropout ({_few(drops)}): in training the variance was another; put it behind the last one",
            ),
            (
                [one.name for one in self.layers if one.n_gamma_zero + one.n_gamma_small],
                "channels with gamma 0 or next to it carry nothing; train with --l1-gamma, and they can be removed",
            ),
            ([one.name for one in self.layers if not one.reached], "the network does not call it: left as it was"),
        )
        return tuple(f"{_few(names)}: {text}" for names, text in findings if names)


@dataclasses.dataclass(frozen=True)
class TrainPlan:
    """What `bnfold train --dry-run` would train; the names are those of TrainReport.

    `n_steps` counts the steps of all epochs, `n_steps_done` those that a run to be resumed has behind it.
    """

    run: Path
    model: str
    seed: int
    n_parameters: int
    goal: str
    recipe: Mapping[str, Any]
    split_sizes: Mapping[str, int]
    steps_per_epoch: int
    n_steps: int
    n_steps_done: int
    schema: ClassVar[str] = "bnfold.train-plan/1"
    json_constants: ClassVar[tuple[str, ...]] = ("schema",)


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing `bnfold doctor` looked at; `remedy` is None where it is ok, `needed` says whether the job needs it."""

    name: str
    status: CheckStatus
    needed: bool
    found: str
    remedy: str | None = None


@dataclasses.dataclass(frozen=True)
class DoctorReport:
    """What `bnfold doctor` found; `able` when every needed check is ok."""

    provider: str
    checks: tuple[Check, ...]
    environment: Mapping[str, Any]
    schema: ClassVar[str] = "bnfold.doctor/1"
    json_constants: ClassVar[tuple[str, ...]] = ("schema",)
    json_properties: ClassVar[tuple[str, ...]] = ("able",)

    @property
    def able(self) -> bool:
        """Whether this machine can do the main job."""
        return all(check.status == "ok" for check in self.checks if check.needed)
