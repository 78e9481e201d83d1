"""Files of lower precision: what they are made from, what they lose, and what they are worth: `bnfold quantize`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np

from bnfold.records.benchmark import Leaning, RatioVerdict
from bnfold.records.conversion import OutputFacts, SourceFacts
from bnfold.records.notebook import Shown

__all__ = [
    "CalibrationFacts",
    "GaugeFacts",
    "GridOf",
    "IntegerNode",
    "LayerPrecision",
    "OutputError",
    "PairedAccuracy",
    "Precision",
    "PrecisionReason",
    "ProofFacts",
    "QuantisationError",
    "QuantizeReport",
    "QuantizedTiming",
    "Recipe",
    "Target",
    "TriedPlan",
    "WeightScales",
]

Precision = Literal["int8", "float32"]
Target = Literal["x86-vnni", "x86", "arm"]
WeightScales = Literal["per-channel", "per-tensor"]
GridOf = Literal["own", "input", "none"]
PrecisionReason = Literal[
    "asked",  # --keep-float
    "no_kernel",  # the runtime has no integer kernel for it
    "not_constant",  # a weight or bias is computed
    "dtype",  # not float32
    "graph_output",  # it writes an output, and outputs are not rounded
    "float_neighbours",  # an addition or pooling of values that are float anyway
    "accumulator",  # a sum could leave int32
    "cost",  # int8 is slower there
    "plan",  # the plan says so
]


@dataclasses.dataclass(frozen=True)
class IntegerNode:
    """An operator that is computed in integers.

    Attributes:
        name: of the node in the folded graph.
        op: its operator.
        output: the value that it writes, behind the activation that it takes in.
        activation: the node of that Relu or Clip, which the grid of the output stands for; None where there is none.
        grid: whose range the output's scale and zero point come from: its own, that of its input, or none, where the
            integer kernel writes float.
    """

    name: str
    op: str
    output: str
    activation: str | None = None
    grid: GridOf = "own"


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All that an int8 file is made from, besides the folded graph.

    Attributes:
        nodes: what is computed in integers, in the graph's order.
        ranges: lowest and highest value by name, for each that has a scale of its own; 0 lies inside.
        corrections: what was added to the bias of a layer, by node, in real units, one number for each output channel.
        weights: whether weights have one scale for each output channel or for all of them.
        weight_limit: the largest magnitude of an integer weight: 127, or 63 where a processor's sums of two products
            would saturate.
        reasons: why each other Conv, Gemm, MatMul or Add is not computed in integers, by node.
        gauge: how many times as large as in the folded graph a value is stored that a layer reads or writes, by name,
            one number for each channel; 1 where absent. Ranges and corrections are those of what is stored.
    """

    nodes: tuple[IntegerNode, ...]
    ranges: Mapping[str, tuple[float, float]]
    corrections: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    weights: WeightScales = "per-channel"
    weight_limit: int = 127
    reasons: Mapping[str, PrecisionReason] = dataclasses.field(default_factory=dict)
    gauge: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


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

    `reason` is not None where the precision is not the one asked for; `sentence` says it in words.
    """

    name: str
    op: str
    precision: Precision
    reason: PrecisionReason | None
    sqnr_db: float | None
    bias_corrected: bool
    sentence: str | None = None


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
    """The metric of both files on the same labelled samples; `difference` is int8 minus float, with 99 % interval."""

    metric: str
    float_: float
    int8: float
    difference: float
    low: float
    high: float
    n: int
    limit: float | None = None
    passed: bool = True
    undecided: bool = False
    json_names: ClassVar[Mapping[str, str]] = {"float_": "float"}


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
    multiply-adds in integers. `plans`: those that `--measure` timed.
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
    warnings: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    schema: ClassVar[str] = "bnfold.quantize/1"
    json_constants: ClassVar[tuple[str, ...]] = ("schema",)

    def in_a_line(self) -> str:
        """The source, the precision, whether it passed, and what holds it back or how much is in integers."""
        if not self.passed:
            return f"{self.source.spec}, {self.precision}: failed, {'; '.join(self.failures)}"
        share = "" if self.int8_share is None else f", {self.int8_share:.0%} of the multiply-adds in integers"
        return f"{self.source.spec}, {self.precision}: passed{share}"
