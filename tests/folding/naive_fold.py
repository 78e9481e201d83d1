"""The fold as it is often written: right for a Conv and its BatchNorm, wrong wherever a network is not that simple."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

__all__ = ["naive_fold"]

_LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_EPSILON = 1e-5


def naive_fold(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give the operator in front of every BatchNorm its scale along axis 0 of the weight, and its shift as bias.

    What it takes for granted, a trap each: epsilon, the axis, one reader, one use of the weight, that a parameter is
    constant, that the second operand of an Add is the bias, that features of a Linear are channels.
    """
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    graph = folded.graph
    for norm in [node for node in graph.node if node.op_type == "BatchNormalization"]:
        gamma, beta, mean, variance = (_array(graph, name) for name in norm.input[1:5])
        scale = gamma / np.sqrt(variance + _EPSILON)
        node = _producer(graph, norm.input[0])
        _scale_and_shift(graph, node, scale, beta - mean * scale)
        node.output[0] = norm.output[0]
        graph.node.remove(norm)
    return folded


def _scale_and_shift(graph: onnx.GraphProto, node: onnx.NodeProto, scale: np.ndarray, shift: np.ndarray) -> None:
    linear = node if node.op_type in _LINEAR else _producer(graph, node.input[0])
    weight = _array(graph, linear.input[1])
    _store(graph, linear.input[1], weight * scale.reshape(-1, *[1] * (weight.ndim - 1)))
    if node is not linear:
        _store(graph, node.input[1], _array(graph, node.input[1]) * scale + shift)
    elif len(node.input) > 2:
        _store(graph, node.input[2], _array(graph, node.input[2]) * scale + shift)
    else:
        node.input.append(f"{node.name}.bias")
        graph.initializer.append(numpy_helper.from_array(shift.astype(np.float32), node.input[2]))


def _producer(graph: onnx.GraphProto, name: str) -> onnx.NodeProto:
    return next(node for node in graph.node if name in node.output)


def _array(graph: onnx.GraphProto, name: str) -> np.ndarray:
    return numpy_helper.to_array(next(tensor for tensor in graph.initializer if tensor.name == name))


def _store(graph: onnx.GraphProto, name: str, array: np.ndarray) -> None:
    tensor = next(tensor for tensor in graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(array, name))
