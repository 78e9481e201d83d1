"""A quantised graph computed in integers by ourselves, to say what ONNX Runtime must give.

    Conv, Gemm, MatMul: y = clip(round(s_x s_w / s_y (sum (q_x - z_x) q_w + q_b)) + z_y, 0, 255)

Sums are exact; what is behind them is rounded in float32 as the kernels do (MlasRequantizeOutput), half to even. What
is float in the file is computed in float64. An operator is one in integers if everything that it reads comes from a
DequantizeLinear and what it writes goes into a QuantizeLinear, or nowhere else than into float for Gemm and MatMul.

The simulation reads the file and nothing else: no recipe, no float weights.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

from bnfold.graph import operators as op
from bnfold.graph.float64_values import reads
from bnfold.graph.operators import in_integers, is_onnx, kind_of
from bnfold.quantisation.float_nodes import FloatNodes
from bnfold.quantisation.integer_kernels import KERNELS, MOVES, Kernel, Operand, saturated

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    Seen = Callable[[str, str, np.ndarray], np.ndarray]

__all__ = ["Simulation"]

_WRITES_FLOAT = in_integers("weights") - {op.Conv}


@dataclasses.dataclass(frozen=True)
class _Unit:
    """A node in integers: the operands that it reads, and the QuantizeLinear behind it, None where it writes float."""

    operands: tuple[Operand, ...]
    quantize: onnx.NodeProto | None


class Simulation:
    """A quantised file, made ready to simulate.

    Args:
        model: the file.

    Attributes:
        integer_nodes: the names of the nodes that are computed in integers.
        stored: the type of the tensors of integers, by name, in graph order.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self._producer = {name: node for node in model.graph.node for name in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in reads(node):
                self._readers.setdefault(name, []).append(node)
        self._outputs = {value.name for value in model.graph.output}
        self._units = {node.name: unit for node in model.graph.node if (unit := self._unit(node)) is not None}
        self._in_units = {unit.quantize.name for unit in self._units.values() if unit.quantize is not None}
        self._floats = FloatNodes(model)
        self.integer_nodes = tuple(self._units)
        self.stored = {
            node.output[0]: self._constants[node.input[2]].dtype
            for node in model.graph.node
            if kind_of(node) == op.QuantizeLinear
        }
        given = {
            node.input[0]: self._constants[node.input[2]].dtype
            for node in model.graph.node
            if kind_of(node) == op.DequantizeLinear and node.input[0] in self._producer.keys() - self.stored.keys()
        }
        self._bytes = frozenset(given)  # that come from an input, as they are
        self.stored = {**given, **self.stored}

    def run(
        self, feed: Mapping[str, np.ndarray], seen: Seen | None = None, *, also: Collection[str] = ()
    ) -> dict[str, np.ndarray]:
        """The outputs, in float64.

        Args:
            feed: of the inputs.
            seen: called with the name of a node, that of what it writes and its value, for every tensor of integers and
                for every output; what comes back takes its place.
            also: the names of float values to call `seen` with too.
        """
        values: dict[str, np.ndarray] = {**self._constants, **{name: np.asarray(x) for name, x in feed.items()}}
        for node in self._model.graph.node:
            if node.name in self._in_units:
                continue
            unit = self._units.get(node.name)
            if unit is not None:
                self._run_unit(node, unit, values, seen)
            elif kind_of(node) == op.QuantizeLinear:
                scale, zero_point = values[node.input[1]], values[node.input[2]]
                x = values[node.input[0]].astype(np.float32)
                q = saturated(np.rint(x / scale) + np.float32(zero_point), zero_point.dtype)
                values[node.output[0]] = q if seen is None else seen(self._name_of(node), node.output[0], q)
            elif kind_of(node) == op.DequantizeLinear:
                if any(reader.name not in self._units for reader in self._readers.get(node.output[0], [])) or (
                    node.output[0] in self._outputs
                ):
                    values[node.output[0]] = self._operand(node, values).real()
            else:
                values.update(self._floats.run(node, values))
            self._show(node, values, seen, self._bytes.union(also))
        return {name: values[name] for name in (value.name for value in self._model.graph.output)}

    def _show(
        self, node: onnx.NodeProto, values: dict[str, np.ndarray], seen: Seen | None, also: Collection[str]
    ) -> None:
        for name in node.output:
            if seen is not None and name in values and (name in self._outputs or name in also):
                values[name] = seen(node.name, name, values[name])

    def _name_of(self, node: onnx.NodeProto) -> str:
        """The node that a QuantizeLinear belongs to: what writes its input."""
        producer = self._producer.get(node.input[0])
        return node.name if producer is None else producer.name

    def _unit(self, node: onnx.NodeProto) -> _Unit | None:
        kind = kind_of(node)
        if kind not in KERNELS and kind not in MOVES:
            return None
        n_data = 1 if kind in MOVES else len(node.input)
        sources = [self._producer.get(name) for name in node.input[:n_data] if name]
        if not sources or any(each is None or kind_of(each) != op.DequantizeLinear for each in sources):
            return None
        behind = self._readers.get(node.output[0], [])
        is_output = node.output[0] in self._outputs
        quantize = behind[0] if len(behind) == 1 and kind_of(behind[0]) == op.QuantizeLinear and not is_output else None
        if quantize is None and kind not in _WRITES_FLOAT:
            return None
        operands = tuple(self._operand(each, self._constants) for each in sources if each is not None)
        return None if any(operand.per_channel_input for operand in operands[:1]) else _Unit(operands, quantize)

    def _operand(self, dequantize: onnx.NodeProto, values: Mapping[str, np.ndarray]) -> Operand:
        q, scale, *zero = dequantize.input
        axis = next((attribute.i for attribute in dequantize.attribute if attribute.name == "axis"), 1)
        return Operand(q, values.get(q), self._constants[scale], self._constants[zero[0]] if zero else None, axis)

    def _run_unit(self, node: onnx.NodeProto, unit: _Unit, values: dict[str, np.ndarray], seen: Seen | None) -> None:
        operands = tuple(dataclasses.replace(each, integers=values[each.name]) for each in unit.operands)
        if unit.quantize is None:
            values[node.output[0]] = Kernel(node, self._opset).to_float(operands)
            return
        scale, zero_point = (self._constants[name] for name in unit.quantize.input[1:3])
        rest = [values[name] for name in node.input[1:]] if kind_of(node) in MOVES else []
        q = Kernel(node, self._opset).to_integers(operands, scale, zero_point, rest)
        name = unit.quantize.output[0]
        values[name] = q if seen is None else seen(node.name, name, q)

    @property
    def _opset(self) -> int:
        return int(next(entry.version for entry in self._model.opset_import if is_onnx(entry.domain)))

    @property
    def unknown(self) -> frozenset[str]:
        """The float nodes of the last run that float64 has no meaning for: ONNX Runtime's own numbers stand there."""
        return frozenset(self._floats.unknown)
