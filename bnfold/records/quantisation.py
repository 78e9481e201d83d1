"""Files of lower precision: what they are made from, what they lose, and what they are worth: `bnfold quantize`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

from bnfold.records.benchmark import Leaning, RatioVerdict
from bnfold.records.conversion import OutputFacts, SourceFacts
from bnfold.records.ledger import Ledger, MergedBranches, RemovedChannels
from bnfold.records.network import NetworkFacts
from bnfold.records.recipes import Precision, PrecisionReason, Target
from bnfold.shown import Shown

__all__ = [
    "CalibrationFacts",
    "FloatOperators",
    "GaugeFacts",
    "LayerPrecision",
    "OutputError",
    "PairedAccuracy",
    "ProofFacts",
    "QuantisationError",
    "QuantizeReport",
    "QuantizedTiming",
    "TriedPlan",
]


@dataclasses.dataclass(frozen=True)
class CalibrationFacts:
    """The samples: how many gave the ranges, and how many were held out to judge the file on."""

    spec: str
    n: int
    sha256: str
    n_held_out: int
    seed: int


@dataclasses.dataclass(frozen=True)
class GaugeFacts:
    """Whether other units of the channels were taken, and what that was predicted to gain on held-out samples."""

    taken: bool
    predicted_gain_db: float | None
    n_classes: int


@dataclasses.dataclass(frozen=True)
class LayerPrecision:
    """One Conv, Gemm, MatMul or Add; `sqnr_db` of what it writes, against float64, on held-out samples.

    `reason` is not None where the precision is not the one asked for; `sentence` says it in words. `ms` and `float_ms`:
    its time in the file and in the float file, by ONNX Runtime's profile; None where they were not timed.
    """

    name: str
    op: str
    precision: Precision
    reason: PrecisionReason | None
    sqnr_db: float | None
    bias_corrected: bool
    sentence: str | None = None
    ms: float | None = None
    float_ms: float | None = None


@dataclasses.dataclass(frozen=True)
class FloatOperators:
    """Nodes of one operator that stay float, besides layers, for one reason.

    `simulated` is False where float64 has no meaning for the operator, so that ONNX Runtime's own numbers stand for it
    in the proof.
    """

    op: str
    reason: PrecisionReason
    sentence: str
    nodes: tuple[str, ...]
    simulated: bool = True


@dataclasses.dataclass(frozen=True)
class OutputError:
    """Signal over quantisation noise of an output, in decibels, and how often the largest element is the same."""

    name: str
    sqnr_db: float
    agreement: float | None


@dataclasses.dataclass(frozen=True)
class ProofFacts:
    """The file against our own integer simulation, against what the recipe says, and as the runtime executes it.

    Attributes:
        n_compared: integers of ONNX Runtime that were compared with the simulation.
        n_off_by_one: those that differ by one output step.
        n_parameters: scales, zero points, integer weights and biases that were derived again.
        integer_kernels: how often each integer kernel stands in ONNX Runtime's optimized graph.
    """

    n_compared: int
    n_off_by_one: int
    n_parameters: int
    integer_kernels: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class QuantisationError:
    """What is lost against float, on `n` samples that gave no range where `held_out`.

    Attributes:
        simulation_steps: the largest difference of ONNX Runtime from the integer simulation, in output steps.
        outside_range: the share of the input elements that lie outside of the calibrated range.
    """

    outputs: tuple[OutputError, ...]
    simulation_steps: int
    held_out: bool
    n: int
    outside_range: float

    @property
    def sqnr_db(self) -> float:
        """Of the output that lost most."""
        return min(output.sqnr_db for output in self.outputs)


@dataclasses.dataclass(frozen=True)
class PairedAccuracy:
    """The metric of both files on the same labelled samples; `difference` is to float, with 99 % interval.

    The file's own value stands under its precision, `int8` or `fp16`.
    """

    metric: str
    float_: float
    int8: float | None
    difference: float
    low: float
    high: float
    n: int
    limit: float | None = None
    passed: bool = True
    undecided: bool = False
    fp16: float | None = None
    json_names: ClassVar[Mapping[str, str]] = {"float_": "float"}

    @property
    def own(self) -> float:
        """The value of the file of lower precision."""
        found = self.int8 if self.int8 is not None else self.fp16
        if found is None:
            raise ValueError("neither int8 nor fp16 has a value")
        return found


@dataclasses.dataclass(frozen=True)
class QuantizedTiming:
    """time(int8 file) / time(folded float file) from interleaved runs, as in `BenchRatio`; medians in milliseconds."""

    ratio: float
    low: float
    high: float
    verdict: RatioVerdict
    leaning: Leaning | None = None
    note: str | None = None
    batch: int = 1
    threads: int | None = None
    median_ms: float | None = None
    float_ms: float | None = None


@dataclasses.dataclass(frozen=True)
class TriedPlan:
    """A plan that was timed against the folded float file: `ratio` is time(plan) / time(float), with its interval.

    `n_float` layers stay float by it, `sqnr_db` is what its outputs have without corrections, `int8_share` that of the
    multiply-adds in integers.
    """

    name: str
    n_float: int
    ratio: float
    low: float
    high: float
    sqnr_db: float
    int8_share: float | None


@dataclasses.dataclass(frozen=True, repr=False)
class QuantizeReport(Shown):
    """What `bnfold quantize` did.

    `failures` says in a clause each what held a file back, and is empty if it passed. `int8_share`: that of the
    multiply-adds in integers. `plans`: those that were timed. `float_operators`: every operator on floats that stays so
    and is not among `layers`. `ledger` and `network` are those of the fold: `network.after` is the float file, whose
    operators `layers` names.
    """

    passed: bool
    precision: Literal["int8", "fp16"]
    source: SourceFacts
    output: OutputFacts | None
    target: Target
    calibration: CalibrationFacts
    gauge: GaugeFacts
    layers: tuple[LayerPrecision, ...]
    error: QuantisationError | None
    proof: ProofFacts | None
    accuracy: PairedAccuracy | None
    timing: QuantizedTiming | None
    seconds: Mapping[str, float]
    int8_share: float | None = None
    plans: tuple[TriedPlan, ...] = ()
    float_operators: tuple[FloatOperators, ...] = ()
    warnings: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    ledger: Ledger | None = None
    network: NetworkFacts | None = None
    schema: ClassVar[str] = "bnfold.quantize/1"
    json_constants: ClassVar[tuple[str, ...]] = ("schema",)
    json_properties: ClassVar[tuple[str, ...]] = ("removed_channels", "merged_branches")

    def in_a_line(self) -> str:
        """The source, the precision, whether it passed, and what holds it back or how much is in integers."""
        if not self.passed:
            return f"{self.source.spec}, {self.precision}: failed, {'; '.join(self.failures)}"
        share = "" if self.int8_share is None else f", {self.int8_share:.0%} of the multiply-adds in integers"
        return f"{self.source.spec}, {self.precision}: passed{share}"

    @property
    def removed_channels(self) -> tuple[RemovedChannels, ...]:
        """The operators that lost dead channels in the fold."""
        return () if self.ledger is None else self.ledger.removed_channels

    @property
    def merged_branches(self) -> tuple[MergedBranches, ...]:
        """Parallel branches that became one operator each in the fold."""
        return () if self.ledger is None else self.ledger.merged_branches
