"""Preprocessing as nodes in front of a graph: `(pixel / divide - mean) / std`, in the network's layout and order.

    pixels -> Transpose -> Cast -> Resize, Slice -> Gather (channels) -> Div -> Sub -> Div -> what read the input before

The first is taken of the pixels as they are, a byte each; the image is resized and cropped where that is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from bnfold.graph import operators as op
from bnfold.graph.constants import store_constant
from bnfold.graph.resize_nodes import Sizes, resize_nodes

if TYPE_CHECKING:
    from bnfold.records.input_format import InputFormat

__all__ = ["image_of_bytes", "insert_preprocessing"]


def insert_preprocessing(model: ir.Model, form: InputFormat) -> None:
    """Let a graph take pixels in the place of one of its inputs, which keeps its name; in place."""
    graph = model.graph
    position, old = next((k, value) for k, value in enumerate(graph.inputs) if value.name == form.input)
    front = _Front(graph, form, old)
    graph.inputs[position] = front.pixels
    old.name = None
    ir.convenience.replace_all_uses_with(old, front.last)
    for k, output in enumerate(graph.outputs):
        if output is old:
            graph.outputs[k] = front.last
    first = next(iter(graph), None)
    if first is None:
        graph.extend(front.nodes)
    else:
        graph.insert_before(first, front.nodes)


def image_of_bytes(model: ir.Model) -> str | None:
    """The name of the one input of bytes that has the axes of images; None where there is none, or another one."""
    found = [
        str(value.name)
        for value in model.graph.inputs
        if value.dtype == ir.DataType.UINT8 and value.shape is not None and len(value.shape) == 4
    ]
    return found[0] if len(found) == 1 else None


class _Front:
    """The nodes in front of a graph, not in it yet: from `pixels` to `last`."""

    def __init__(self, graph: ir.Graph, form: InputFormat, old: ir.Value) -> None:
        self._graph, self._form, self._kind = graph, form, old.dtype or ir.DataType.FLOAT
        self._sizes: Sizes = [*old.shape.dims] if old.shape is not None else [None] * 4  # of the last value
        self._channel = 1 if form.network.layout == "nchw" else 3
        self.nodes: list[ir.Node] = []
        dtype = ir.DataType.from_numpy(np.dtype(form.dtype))
        self.pixels = ir.Value(name=form.input, shape=ir.Shape(self._given()), type=ir.TensorType(dtype))
        self.last = self.pixels
        self._place(dtype)
        if form.resize is not None:
            self._fit(form.resize)
        self._normalise()

    def _given(self) -> Sizes:
        """The sizes of the pixels; those of the last value become theirs in the network's layout."""
        form, axes = self._form, self._form.axes
        if form.resize is not None:
            rows = 2 if self._channel == 1 else 1
            self._sizes[rows : rows + 2] = [ir.SymbolicDim(f"{form.input}_{side}") for side in ("height", "width")]
        return self._sizes if axes is None else [self._sizes[axis] for axis in np.argsort(axes)]

    def _then(self, op_type: str, *others: ir.Value, dtype: ir.DataType, **attributes: int | list[int]) -> None:
        node = ir.node(op_type, [self.last, *others], attributes=attributes)
        self.last = node.outputs[0]
        self.last.name = node.name = f"{self._form.input}.{len(self.nodes)}.{op_type.lower()}"
        self.last.type, self.last.shape = ir.TensorType(dtype), ir.Shape(self._sizes)
        self.nodes.append(node)

    def _place(self, dtype: ir.DataType) -> None:
        """The network's layout, in floats."""
        axes = self._form.axes
        if axes is not None:
            self._then(op.Transpose, dtype=dtype, perm=list(axes))
        if dtype != self._kind:
            self._then(op.Cast, dtype=self._kind, to=int(self._kind))

    def _fit(self, side: int) -> None:
        """The size of the network."""
        fitting = resize_nodes(
            self._graph, self.last, self.pixels, pixels_layout=self._form.layout, side=side, crop=self._form.crop,
            channel=self._channel, interpolation=self._form.network.interpolation, name=f"{self._form.input}.resize",
        )  # fmt: skip
        self.nodes += fitting
        self.last = fitting[-1].outputs[0]
        self._sizes = [*self.last.shape.dims] if self.last.shape is not None else self._sizes

    def _normalise(self) -> None:
        """The network's order of channels, and its numbers."""
        form, network = self._form, self._form.network
        if form.permutation != tuple(range(form.n_channels)):
            order = store_constant(self._graph, f"{form.input}.order", np.array(form.permutation), ir.DataType.INT64)
            self._then(op.Gather, order, dtype=self._kind, axis=self._channel)
        broadcast = (-1, 1, 1) if self._channel == 1 else (-1,)
        for op_type, numbers, neutral in (
            (op.Div, (network.divide,), 1.0), (op.Sub, network.mean, 0.0), (op.Div, network.std, 1.0),
        ):  # fmt: skip
            if any(number != neutral for number in numbers):
                array = np.array(numbers, np.float64)
                stored = array.reshape(()) if len(numbers) == 1 else array.reshape(broadcast)
                name = f"{form.input}.{op_type.lower()}"
                self._then(op_type, store_constant(self._graph, name, stored, self._kind), dtype=self._kind)
