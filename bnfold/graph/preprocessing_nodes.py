"""Preprocessing as nodes in front of a graph: `(pixel / divide - mean) / std`, in the network's layout and order.

    pixels -> Transpose -> Cast -> Gather (channels) -> Div -> Sub -> Div -> what read the input before

The first is taken of the pixels as they are, a byte each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from bnfold.graph.constants import store_constant

if TYPE_CHECKING:
    from bnfold.records.input_format import InputFormat

__all__ = ["insert_preprocessing"]


def insert_preprocessing(model: ir.Model, form: InputFormat) -> None:
    """Let a graph take pixels in the place of one of its inputs, which keeps its name; in place."""
    graph = model.graph
    position, old = next((k, value) for k, value in enumerate(graph.inputs) if value.name == form.input)
    axes = form.axes
    sizes: list[int | ir.SymbolicDim | None] = [*old.shape.dims] if old.shape is not None else [None] * 4
    moved = sizes if axes is None else [sizes[axis] for axis in np.argsort(axes)]
    pixels = ir.Value(
        name=form.input, shape=ir.Shape(moved), type=ir.TensorType(ir.DataType.from_numpy(np.dtype(form.dtype)))
    )
    last, kind = pixels, old.dtype or ir.DataType.FLOAT
    nodes: list[ir.Node] = []
    channel = 1 if form.network.layout == "nchw" else 3

    def then(op_type: str, *others: ir.Value, **attributes: int | list[int]) -> None:
        nonlocal last
        node = ir.node(op_type, [last, *others], attributes=attributes)
        out = node.outputs[0]
        out.name = f"{form.input}.{len(nodes)}.{op_type.lower()}"
        node.name = out.name
        nodes.append(node)
        last = out

    def typed(dtype: ir.DataType) -> None:
        last.type, last.shape = ir.TensorType(dtype), ir.Shape(sizes)

    if axes is not None:
        then("Transpose", perm=list(axes))
        typed(pixels.dtype or kind)
    if pixels.dtype != kind:
        then("Cast", to=int(kind))
        typed(kind)
    if form.permutation != tuple(range(form.n_channels)):
        order = store_constant(graph, f"{form.input}.order", np.array(form.permutation), ir.DataType.INT64)
        then("Gather", order, axis=channel)
        typed(kind)
    broadcast = (-1, 1, 1) if channel == 1 else (-1,)
    steps = (("Div", (form.network.divide,), 1.0), ("Sub", form.network.mean, 0.0), ("Div", form.network.std, 1.0))
    for op_type, numbers, neutral in steps:
        if any(number != neutral for number in numbers):
            array = np.array(numbers, np.float64)
            stored = array.reshape(()) if len(numbers) == 1 else array.reshape(broadcast)
            then(op_type, store_constant(graph, f"{form.input}.{op_type.lower()}", stored, kind))
            typed(kind)
    graph.inputs[position] = pixels
    old.name = None
    ir.convenience.replace_all_uses_with(old, last)
    for k, output in enumerate(graph.outputs):
        if output is old:
            graph.outputs[k] = last
    first = next(iter(graph), None)
    if first is None:
        graph.extend(nodes)
    else:
        graph.insert_before(first, nodes)
