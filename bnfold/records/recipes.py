"""What a file of lower precision is made from, besides the folded graph: `bnfold quantize`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

import numpy as np

__all__ = [
    "Activations",
    "GridOf",
    "HalfRecipe",
    "IntegerNode",
    "Precision",
    "PrecisionReason",
    "Recipe",
    "Target",
    "WeightScales",
]

Precision = Literal["int8", "fp16", "float32"]
Target = str
"""The processor that a file is for: x86-vnni, x86, arm (`bnfold.quantisation.targets`), or a GPU by its provider."""
Activations = Literal["u8", "s8"]
WeightScales = Literal["per-channel", "per-tensor"]
GridOf = Literal["own", "input", "none"]
PrecisionReason = Literal[
    "asked",  # --keep-float
    "no_kernel",  # the runtime has no kernel for it in that precision
    "no_simulation",  # it has one, which is not simulated here
    "not_constant",  # a weight or bias is computed
    "dtype",  # not float32
    "graph_output",  # it writes an output, and outputs are not rounded
    "float_neighbours",  # an addition or pooling of values that are float anyway
    "accumulator",  # a sum could leave int32
    "cost",  # int8 is slower there
    "error",  # int8 makes more noise there than its time is worth
    "plan",  # the plan says so
    "range",  # a value or a parameter leaves the range of float16
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
        moments: the metric in which errors of a layer's weights are errors of what it computes, by node, (K, K) in
            float32: mean products of what weights are multiplied with, and what is known of these without samples.
        weights: whether weights have one scale for each output channel or for all of them.
        weight_limit: the largest magnitude of an integer weight: 127, or 63 where a processor's sums of two products
            would saturate.
        reasons: why each other Conv, Gemm, MatMul or Add is not computed in integers, by node.
        others: the same of every other operator on floats.
        activations: the integers of activations: unsigned, or signed, with zero points that are smaller by 128.
        gauge: how many times as large as in the folded graph a value is stored that a layer reads or writes, by name,
            one number for each channel; 1 where absent. Ranges and corrections are those of what is stored.
        pixels: values of 0 to 255 that integer kernels read; by name, how many times as large each channel is as in the
            folded graph: 255 for one of ones.
        bytes: those that the file is given as bytes and stores as they are; the folded graph has a Cast there.
    """

    nodes: tuple[IntegerNode, ...]
    ranges: Mapping[str, tuple[float, float]]
    corrections: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    moments: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    weights: WeightScales = "per-channel"
    weight_limit: int = 127
    reasons: Mapping[str, PrecisionReason] = dataclasses.field(default_factory=dict)
    gauge: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    activations: Activations = "u8"
    others: Mapping[str, PrecisionReason] = dataclasses.field(default_factory=dict)
    pixels: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    bytes: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class HalfRecipe:
    """All that a float16 file is made from, besides the folded graph.

    Attributes:
        gauge: how many times as large as in the folded graph a value is stored that a layer reads or writes, by name,
            one power of two for each channel; 1 where absent.
        reasons: why operators on floats stay in float32, by the name of their node.
        peaks: the largest magnitude of every float value on the samples, by name, in the units of the file.
    """

    gauge: Mapping[str, np.ndarray]
    reasons: Mapping[str, PrecisionReason]
    peaks: Mapping[str, float]
