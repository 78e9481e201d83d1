"""The file in float16: parameters rounded to it, and a Cast at each border to float32. Inputs and outputs stay float32.

x (f32) -> Cast -> [ operators in float16 ] -> Cast -> y (f32)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from bnfold.graph import operators as op
from bnfold.graph.constants import constant
from bnfold.graph.edit import drop_unused_initializers
from bnfold.quantisation.half.islands import half_inputs, half_outputs

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["HALF_SUFFIX", "write_half"]

HALF_SUFFIX = "/f16"
SINGLE_SUFFIX = "/f32"


def write_half(model: ir.Model, opset: int, kept: Collection[str]) -> None:
    """Write a float32 graph in float16, in place.

    Args:
        model: prepared, in the units of the file.
        opset: of the file.
        kept: the names of the nodes that stay in float32.
    """
    _Writer(model, opset, kept).run()


class _Writer:
    def __init__(self, model: ir.Model, opset: int, kept: Collection[str]) -> None:
        self.graph, self.opset, self.kept = model.graph, opset, kept
        self.half: dict[ir.Value, ir.Value] = {}  # of a float32 value: the same in float16
        self.single: dict[ir.Value, ir.Value] = {}  # of a float16 value: the same in float32

    def run(self) -> None:
        nodes = list(self.graph)
        plans = {
            node: (half_inputs(node, self.opset), half_outputs(node, self.opset))
            for node in nodes
            if str(node.name) not in self.kept
        }  # before any type changes
        written = {node.outputs[index] for node, (read, outputs) in plans.items() if read for index in outputs}
        for node in nodes:
            read, outputs = plans.get(node, ([], []))
            for index, value in enumerate(node.inputs):
                if value is None:
                    continue
                if index in read and value not in written:
                    node.replace_input_with(index, self._halved(value, node))
                elif index not in read and value in written:
                    node.replace_input_with(index, self._widened(value))
            if read:
                for index in outputs:
                    self._to_half(node.outputs[index])
        self._captured(written)
        self._outputs(written)
        drop_unused_initializers(self.graph)

    def _to_half(self, value: ir.Value) -> None:
        value.type = ir.TensorType(ir.DataType.FLOAT16)

    def _halved(self, value: ir.Value, reader: ir.Node) -> ir.Value:
        """The float16 of a float32 value, made once: a constant, or a Cast in front of its first reader."""
        if value in self.half:
            return self.half[value]
        array = constant(value)
        name = f"{value.name}{HALF_SUFFIX}"
        if array is not None:
            tensor = ir.Tensor(array.astype(np.float16), name=name)
            twin = ir.Value(
                name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor
            )
            self.graph.register_initializer(twin)
        else:
            node = _cast(value, ir.DataType.FLOAT16, name)
            self.graph.insert_before(reader, node)
            twin = node.outputs[0]
        self.half[value] = twin
        return twin

    def _widened(self, value: ir.Value) -> ir.Value:
        """The float32 of a value that is written in float16, made once, right behind what writes it."""
        if value not in self.single:
            producer = value.producer()
            if producer is None:
                raise ValueError(f"{value.name} is written by no node")
            name = f"{value.name}{SINGLE_SUFFIX}"
            node = _cast(value, ir.DataType.FLOAT, name)
            self.graph.insert_after(producer, node)
            self.single[value] = node.outputs[0]
        return self.single[value]

    def _captured(self, written: Collection[ir.Value]) -> None:
        """What a subgraph reads stays float32."""
        for value in written:
            for use in list(value.uses()):
                if use.node.graph is not self.graph:
                    use.node.replace_input_with(use.idx, self._widened(value))

    def _outputs(self, written: Collection[ir.Value]) -> None:
        """An output keeps its name and its type."""
        for index, value in enumerate(self.graph.outputs):
            if value not in written:
                continue
            producer = value.producer()
            if producer is None:
                raise ValueError(f"{value.name} is written by no node")
            name = str(value.name)
            value.name = f"{name}{HALF_SUFFIX}"
            cast = _cast(value, ir.DataType.FLOAT, name)
            self.graph.insert_after(producer, cast)
            self.graph.outputs[index] = cast.outputs[0]


def _cast(value: ir.Value, dtype: ir.DataType, name: str) -> ir.Node:
    """A Cast of a value, which writes `name`."""
    node = ir.node(op.Cast, [value], attributes={"to": int(dtype)}, name=f"{name}/Cast")
    out = node.outputs[0]
    out.name, out.shape, out.type = name, value.shape, ir.TensorType(dtype)
    return node
