"""What a quantised file stores: constants by name, and the integer weights and biases of layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from bnfold.graph import operators as op
from bnfold.graph.operators import kind_of
from bnfold.quantisation.digits import digits_of
from bnfold.quantisation.grids import integer_bias, integer_weight
from bnfold.quantisation.operators import channel_axis

if TYPE_CHECKING:
    from bnfold.quantisation.grids import Grid
    from bnfold.records.recipes import Recipe

__all__ = ["bias_name", "store_bias", "stored_constant", "weight_name", "write_parameters"]


def bias_name(node: str) -> str:
    """The name of a layer's integer bias."""
    return f"{node}/bias/s32"


def weight_name(node: str) -> str:
    """The name of a layer's integer weight."""
    return f"{node}/weight/s8"


def store_bias(graph: ir.Graph, node: str, values: np.ndarray) -> None:
    """Replace the integer bias of a layer."""
    name = bias_name(node)
    graph.initializers[name].const_value = ir.Tensor(values.astype(np.int32), name=name)


def stored_constant(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    """The initializer of a name, made where there is none."""
    if name in graph.initializers:
        return graph.initializers[name]
    tensor = ir.Tensor(np.array(array, order="C"), name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
    graph.register_initializer(value)
    return value


def write_parameters(graph: ir.Graph, node: ir.Node, recipe: Recipe, grid: Grid) -> list[ir.Node]:
    """Give a layer integer parameters in place of its float ones; the DequantizeLinears that it reads them through.

    Args:
        graph: that holds it.
        node: a Conv, Gemm or MatMul.
        recipe: with corrections, and how weights are scaled.
        grid: of what it reads.
    """
    name, axis = str(node.name), channel_axis(node)
    weight, bias = digits_of(node, 1), digits_of(node, 2)
    if weight is None:
        raise ValueError(f"the weight of {name} is not constant")
    correction = recipe.corrections.get(name)
    channels = weight.shape[axis]
    if bias is None and kind_of(node) != op.MatMul:
        bias = np.zeros(channels)
    if bias is not None and correction is not None:
        bias = bias + correction
    quantised = integer_weight(
        weight,
        axis,
        recipe.weights,
        recipe.weight_limit,
        input_scale=grid.scale,
        bias=bias,
        moments=recipe.moments.get(name),
    )
    made = [_parameter(graph, node, 1, weight_name(name), values=quantised.values, scale=quantised.scale, axis=axis)]
    if bias is not None:
        values, scale = integer_bias(bias, grid.scale, quantised.scale)
        values = np.broadcast_to(values, (channels,))
        made.append(_parameter(graph, node, 2, bias_name(name), values=values, scale=scale, axis=0))
    return made


def _parameter(
    graph: ir.Graph, node: ir.Node, index: int, name: str, *, values: np.ndarray, scale: np.ndarray, axis: int
) -> ir.Node:
    stem = name.rpartition("/")[0]
    inputs = [
        stored_constant(graph, name, values),
        stored_constant(graph, f"{stem}/scale", scale),
        stored_constant(graph, f"{stem}/zero_point", np.zeros(scale.shape, values.dtype)),
    ]
    attributes = {"axis": axis} if scale.ndim else None
    dequantize = ir.node(op.DequantizeLinear, inputs, attributes=attributes, name=f"{stem}/DequantizeLinear")
    dequantize.outputs[0].name = stem
    if index < len(node.inputs):
        node.replace_input_with(index, dequantize.outputs[0])
    else:
        node.resize_inputs(index + 1)
        node.replace_input_with(index, dequantize.outputs[0])
    return dequantize
