"""What layers cost in float and in integers on a target, by measured tables (`costs/TARGET.json`).

    ns = work * exp( sum_k w_k log(ns_k / work_k) / sum_k w_k )        w_k = 1 / d_k^2

over the entries k of the layer's class, where d_k is the distance in octaves of channels and positions: at a measured
shape it is what was measured. Work is multiply-adds, for an addition elements. A border between integers and float
costs by elements alone: its entries agree across classes. `scripts/int8/costs.py` measures a table.
"""

from __future__ import annotations

import dataclasses
import json
import math
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from bnfold.graph import operators as op
from bnfold.graph.constants import attribute, constant
from bnfold.graph.operators import kind_of
from bnfold.quantisation.operators import WEIGHTED, is_depthwise, reads_one_position

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx_ir as ir

    from bnfold.records.recipes import Target

__all__ = ["SCHEMA", "Cost", "CostTable", "elements_of", "table_of"]

SCHEMA = "bnfold.int8-costs/1"
MEASURED: Target = "x86-vnni"
"""Whose table stands for targets that have none."""
FAR = 2.0  # octaves from the nearest entry, from which on a cost is a guess
TYPICAL_SIDE = 28  # of an axis whose length is not known


@dataclasses.dataclass(frozen=True)
class Cost:
    """Nanoseconds in float and in integers; `is_far` where no entry of the table is near."""

    exact: float
    integer: float
    is_far: bool = False


@dataclasses.dataclass(frozen=True)
class _Entry:
    octaves: tuple[float, float]  # of channels and positions
    exact: float  # logarithm of ns for each unit of work
    integer: float


@dataclasses.dataclass(frozen=True)
class _Shape:
    """A layer as the table sees it: class, kernel, octaves of channels and positions, work."""

    layer: str
    kernel: int
    octaves: tuple[float, float]
    work: float


class CostTable:
    """The costs of a target.

    Args:
        text: the table, JSON.

    Attributes:
        target: that it was measured on.
        environment: likewise.
    """

    def __init__(self, text: str) -> None:
        table = json.loads(text)
        if table["schema"] != SCHEMA:
            raise ValueError(f"the table must have the schema {SCHEMA}, got {table['schema']}")
        self.target: Target = table["target"]
        self.environment: dict[str, Any] = table["environment"]
        self._entries: dict[tuple[str, int], list[_Entry]] = {}
        self._borders: list[tuple[float, float]] = []
        for entry in table["entries"]:
            self._add(entry)

    def _add(self, entry: dict[str, Any]) -> None:
        layer, kernel, channels, positions = (entry[key] for key in ("layer", "kernel", "channels", "positions"))
        elements = channels * positions
        taps = kernel**2
        width = channels // entry.get("groups", 1)
        work = {"add": elements, "depthwise": taps * elements}.get(layer, taps * elements * width)
        octaves = (math.log2(width if layer == "grouped" else channels), math.log2(positions))
        rates = [math.log(max(entry[key], 1) / work) for key in ("float_ns", "int8_ns")]
        self._entries.setdefault((layer, kernel), []).append(_Entry(octaves, *rates))
        if "border_ns" in entry and entry["border_ns"] > 0:
            self._borders.append((math.log2(elements), math.log(entry["border_ns"] / elements)))

    def of(self, node: ir.Node) -> Cost:
        """What a layer with weights or an Add costs; nothing for any other operator."""
        shape = _shape_of(node)
        if shape is None:
            return Cost(0.0, 0.0)
        kernels = [kernel for layer, kernel in self._entries if layer == shape.layer]
        entries = self._entries[shape.layer, min(kernels, key=lambda kernel: (abs(kernel - shape.kernel), kernel))]
        distances = [math.dist(entry.octaves, shape.octaves) for entry in entries]
        exact = _weighted([entry.exact for entry in entries], distances)
        integer = _weighted([entry.integer for entry in entries], distances)
        return Cost(shape.work * math.exp(exact), shape.work * math.exp(integer), is_far=min(distances) > FAR)

    def border(self, elements: float) -> float:
        """Nanoseconds that a QuantizeLinear or a DequantizeLinear takes, changes of the layout included."""
        distances = [abs(octave - math.log2(elements)) for octave, _ in self._borders]
        return elements * math.exp(_weighted([rate for _, rate in self._borders], distances)) / 2


@cache
def table_of(target: Target) -> CostTable:
    """The table of a target, or the one that stands for it."""
    folder = resources.files("bnfold.quantisation") / "costs"
    own = folder / f"{target}.json"
    return CostTable((own if own.is_file() else folder / f"{MEASURED}.json").read_text(encoding="utf-8"))


def elements_of(value: ir.Value) -> float:
    """How many elements one sample of a value has; lengths that are not known count as a typical image's."""
    return math.prod(_lengths(value)[1:])


def _lengths(value: ir.Value) -> list[int]:
    if value.shape is None:
        return [1, TYPICAL_SIDE, TYPICAL_SIDE, TYPICAL_SIDE]
    return [size if isinstance(size, int) else TYPICAL_SIDE for size in value.shape]


def _shape_of(node: ir.Node) -> _Shape | None:
    kind = kind_of(node)
    lengths = _lengths(node.outputs[0])
    if kind == op.Add:
        channels = lengths[1] if len(lengths) > 1 else 1
        positions = math.prod(lengths[2:])
        return _Shape("add", 1, (math.log2(channels), math.log2(positions)), channels * positions)
    weight = constant(node.inputs[1]) if kind in WEIGHTED else None
    if weight is None:
        return None
    if kind != op.Conv:
        rows = math.prod(lengths[1:-1])
        return _Shape("gate", 1, (math.log2(math.sqrt(weight.size)), math.log2(rows)), weight.size * rows)
    m, per_group, *kernel = weight.shape
    groups, positions = attribute(node, "group", 1), math.prod(lengths[2:])
    taps = math.prod(kernel)
    layer = "dense" if taps > 1 else "gate" if reads_one_position(node) else "pointwise"
    width = math.sqrt(m * per_group * groups)
    if groups > 1:
        layer = "depthwise" if is_depthwise(node) else "grouped"
        width = width if layer == "depthwise" else width / groups
    side = round(taps ** (1 / max(1, len(kernel))))
    return _Shape(layer, side, (math.log2(width), math.log2(positions)), weight.size * positions)


def _weighted(values: Sequence[float], distances: Sequence[float]) -> float:
    """The mean of values by the inverse squares of their distances; that of those at distance 0 where there are any."""
    here = [value for value, distance in zip(values, distances, strict=True) if distance == 0]
    if here:
        return sum(here) / len(here)
    weights = [1 / distance**2 for distance in distances]
    return sum(w * value for w, value in zip(weights, values, strict=True)) / sum(weights)
