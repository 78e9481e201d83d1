"""The quantised file derived a second time, from what it was made of; every number must be the same.

    s = (high - low) / 255      z = round(-low / s)      s_w = max_c |w| / n      q_w = round(w / s_w)
    q_b = round((b + correction) / (s s_w))

from the folded weights in float64 and the recorded ranges, units and corrections. It shares no code with what writes
the file: it reads the folded graph and the file as protobufs, and walks from one to the other by the names of nodes and
values. So it also sees which value an operator reads and where its integers go.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from onnx import ModelProto, NodeProto, numpy_helper

from bnfold.derivation.integer_parameters import SMALLEST_SCALE, ExpectedParameters, even
from bnfold.derivation.pixels import ExpectedPixels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnfold.records.certificate import Exact
    from bnfold.records.recipes import IntegerNode, Recipe

__all__ = ["Derivation"]

_TOP = 255.0
_SIGNED = 128.0


class Derivation:
    """Compare a file with what follows from the folded graph and the recipe.

    Args:
        folded: the float graph.
        written: the file.
        recipe: ranges, corrections, and what is in integers.
        digits: float64 digits of the float graph's parameters by name, from the certificate of the fold.

    Attributes:
        differences: a sentence for each, the layer or value first; empty where the file is right.
        n_parameters: how many numbers were derived and compared.
    """

    def __init__(
        self, folded: ModelProto, written: ModelProto, recipe: Recipe, digits: Mapping[str, Exact] | None = None
    ) -> None:
        self.differences: list[str] = []
        self.n_parameters = 0
        self._recipe = recipe
        self._plans = {plan.name: plan for plan in recipe.nodes}
        self._source = {node.name: node for node in folded.graph.node}
        self._source_constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in folded.graph.initializer}
        self._source_reader: dict[str, list[NodeProto]] = {}
        for node in folded.graph.node:
            for name in node.input:
                self._source_reader.setdefault(name, []).append(node)
        self._file = {node.name: node for node in written.graph.node}
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in written.graph.initializer}
        self._makes = {name: node for node in written.graph.node for name in node.output}
        self._reads: dict[str, list[NodeProto]] = {}
        for node in written.graph.node:
            for name in node.input:
                self._reads.setdefault(name, []).append(node)
        self._checked: set[str] = set()
        self._expected = ExpectedParameters(
            self._source, self._source_constants, self._source_reader, recipe, digits or {}
        )
        self._pixels = ExpectedPixels(folded, written, recipe)
        self.differences += self._pixels.differences
        self._values = {integers: value for value, integers in self._pixels.integers.items()}
        for name in self._expected.misstored():
            readers = ", ".join(node.name for node in self._source_reader.get(name, []))
            self.differences.append(f"{readers}: {name} of the folded graph is not what the fold computed, rounded")
        self._compare()

    def _compare(self) -> None:
        for plan in self._recipe.nodes:
            if plan.name not in self._file:
                self.differences.append(f"{plan.name}: the file has no such node")
                continue
            self._compare_output(plan)
            self._compare_inputs(plan)
            self._compare_activation(plan)
            if plan.op in ("Conv", "Gemm", "MatMul"):
                self._compare_parameters(plan)
        for name, source in self._source.items():
            if name in self._file and name not in self._plans and name not in self._pixels.nodes:
                self._compare_float(source, self._file[name])
        for node in self._file.values():
            if node.op_type == "QuantizeLinear":
                self._compare_grid(node, node.output[0])
            elif node.op_type == "DequantizeLinear" and node.name not in self._checked:
                self._compare_grid(node, node.input[0])

    # Values: scale and zero point.

    def _grid(self, value: str, depth: int = 0) -> tuple[float, float] | None:
        """Scale and zero point of a value, by its own range or by that of what was moved to it."""
        if value in self._recipe.ranges:
            low, high = self._recipe.ranges[value]
            scale = float(np.float32(max((high - low) / _TOP, SMALLEST_SCALE))) if high > low else 1.0
            zero_point = min(max(float(even(-low / scale)), 0.0), _TOP)
            return scale, zero_point - (_SIGNED if self._recipe.activations == "s8" else 0)
        for plan in self._recipe.nodes:
            if plan.output == value and plan.grid == "input" and depth < len(self._recipe.nodes):
                return self._grid(self._source[plan.name].input[0], depth + 1)
        return None

    def _compare_grid(self, node: NodeProto, integers: str) -> None:
        value = self._values.get(integers, integers.removesuffix("/q8"))
        grid = self._grid(value) if integers.endswith("/q8") or integers in self._values else None
        if grid is None:
            self.differences.append(f"{integers}: {node.op_type} {node.name} stands for no recorded range")
            return
        found = self._constants.get(node.input[2])
        if found is not None and found.dtype != (np.int8 if self._recipe.activations == "s8" else np.uint8):
            self.differences.append(f"{value}: its integers are {found.dtype}")
        for kind, name, number in zip(("scale", "zero point"), node.input[1:3], grid, strict=True):
            self._equal(f"{value}: {kind}", self._constants.get(name), np.full((), number))

    def _equal(self, what: str, found: np.ndarray | None, expected: np.ndarray) -> None:
        """Compare numbers; one stands for many of the same."""
        if found is None:
            self.differences.append(f"{what} is missing")
            return
        self.n_parameters += found.size
        wide = found.astype(np.float64)
        if expected.ndim and found.shape != expected.shape:
            self.differences.append(f"{what} has shape {found.shape}, derived {expected.shape}")
            return
        wrong = wide != expected
        if wrong.any():
            k = tuple(int(index) for index in np.argwhere(wrong)[0]) if wide.ndim else ()
            derived = float(np.broadcast_to(expected, wide.shape)[k])
            where = f"[{', '.join(map(str, k))}]" if k else ""
            more = f" ({int(wrong.sum())} of {wide.size} differ)" if wide.size > 1 else ""
            self.differences.append(f"{what}{where} is {float(wide[k]):.9g}, derived {derived:.9g}{more}")

    # Structure: what is read, where integers go.

    def _compare_inputs(self, plan: IntegerNode) -> None:
        source, own = self._source[plan.name], self._file[plan.name]
        n = len(source.input) if plan.op in ("Add", "Concat") else 1
        for expected, name in zip(source.input[:n], own.input[:n], strict=True):
            behind = self._makes.get(name)
            integers = self._pixels.integers.get(expected, f"{expected}/q8")
            if behind is None or behind.op_type != "DequantizeLinear" or behind.input[0] != integers:
                self.differences.append(f"{plan.name}: it does not read the integers of {expected}")

    def _compare_float(self, source: NodeProto, own: NodeProto) -> None:
        """A float operator reads the same values, from float or from their integers."""
        if own.op_type != source.op_type:
            return
        if len(own.input) != len(source.input):
            self.differences.append(f"{own.name}: it has {len(own.input)} inputs in place of {len(source.input)}")
            return
        for index, (expected, name) in enumerate(zip(source.input, own.input, strict=True)):
            if expected in self._source_constants:
                self._compare_constant(source, index, name)
                continue
            behind = self._makes.get(name)
            read = behind.input[0].removesuffix("/q8") if behind and behind.op_type == "DequantizeLinear" else name
            if read != expected:
                self.differences.append(f"{own.name}: it reads {read} in place of {expected}")

    def _compare_constant(self, source: NodeProto, index: int, name: str) -> None:
        """A parameter of a float operator: as it was, or in the units of the file."""
        expected = self._source_constants[source.input[index]]
        if source.op_type in ("Conv", "Gemm", "MatMul"):
            written = self._recipe.gauge.get(self._expected.written(source))
            if index == 1:
                axis = self._expected.channel_axis(source)
                expected = self._expected.in_float(source, expected.astype(np.float64), axis)
            elif written is not None:
                expected = (expected.astype(np.float64) * written).astype(np.float32)
        elif self._recipe.gauge:
            return  # what else has units of its own is no layer: its error is in the layers' signal over noise
        found = self._constants.get(name)
        if found is None or found.shape != expected.shape or not np.array_equal(found, expected):
            self.differences.append(
                f"{source.name}: its input {index} is not {source.input[index]} of the folded graph"
            )

    def _compare_output(self, plan: IntegerNode) -> None:
        own = self._file[plan.name]
        behind = self._reads.get(own.output[0], [])
        if plan.grid == "none":
            if any(node.op_type == "QuantizeLinear" for node in behind):
                self.differences.append(f"{plan.name}: its output is quantised, and should be float")
            return
        stored = [node for node in behind if node.op_type == "QuantizeLinear"]
        if len(behind) != 1 or len(stored) != 1 or stored[0].output[0] != f"{plan.output}/q8":
            self.differences.append(f"{plan.name}: its output is not stored as the integers of {plan.output}")

    def _compare_activation(self, plan: IntegerNode) -> None:
        """A Relu or Clip that is not written needs a range that ends at its bounds, or within."""
        if plan.activation is None:
            return
        node = self._source[plan.activation]
        low, high = self._recipe.ranges[plan.output]
        least, most = (0.0, math.inf) if node.op_type == "Relu" else self._bounds(node)
        if low < least or high > most:
            self.differences.append(f"{plan.name}: the range {low:.6g} to {high:.6g} leaves {plan.activation}'s")

    def _bounds(self, node: NodeProto) -> tuple[float, float]:
        ends = [-math.inf, math.inf]
        for k, name in enumerate(node.input[1:3]):
            if name:
                ends[k] = float(self._source_constants[name])
        return min(ends[0], 0.0), max(ends[1], 0.0)

    # Parameters: weights and biases.

    def _compare_parameters(self, plan: IntegerNode) -> None:
        source, own = self._source[plan.name], self._file[plan.name]
        if source.op_type == own.op_type and _attributes(source) != _attributes(own):
            self.differences.append(f"{plan.name}: its attributes are not those of the folded graph")
        grid = self._grid(source.input[0])
        if grid is None:
            return
        expected = self._expected.of_layer(plan, grid[0])
        self._compare_parameter(plan, own, 1, what="weight", integers=expected.weight, scales=expected.scales)
        if expected.bias is not None:
            self._compare_parameter(plan, own, 2, what="bias", integers=expected.bias, scales=expected.bias_scales)

    def _compare_parameter(
        self, plan: IntegerNode, own: NodeProto, index: int, *, what: str, integers: np.ndarray, scales: np.ndarray
    ) -> None:
        name = own.input[index] if index < len(own.input) else ""
        behind = self._makes.get(name)
        if behind is None or behind.op_type != "DequantizeLinear":
            self.differences.append(f"{plan.name}: its {what} is not dequantised from integers")
            return
        self._checked.add(behind.name)
        q, scale, zero = (self._constants.get(each) for each in behind.input[:3])
        self._equal(f"{plan.name}: {what}", q, integers)
        self._equal(f"{plan.name}: scale of the {what}", scale, scales if scales.ndim else np.full((), float(scales)))
        self._equal(f"{plan.name}: zero point of the {what}", zero, np.zeros(()))


def _attributes(node: NodeProto) -> list[bytes]:
    return sorted(attribute.SerializeToString(deterministic=True) for attribute in node.attribute)
