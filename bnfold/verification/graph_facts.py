"""What a comparison wants to know of an ONNX graph: how long its sums are, and what its inputs expect."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, numpy_helper

from bnfold.verification.input_rows import InputFacts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import onnx
    from onnx import GraphProto, NodeProto

__all__ = [
    "LOGISTIC_TERMS",
    "accumulation_length",
    "accumulation_lengths",
    "coarsest_format",
    "input_axes",
    "input_facts",
    "logistic_error",
    "logistic_outputs",
    "quantizes",
    "readers",
]

_FORMATS = {  # coarsest first
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.FLOAT16: "float16",
    TensorProto.FLOAT: "float32",
    TensorProto.DOUBLE: "float64",
}
_SAME_VALUES = {"Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Expand"}
_CARRIES = _SAME_VALUES | {"Transpose", "Slice"}
LOGISTIC_TERMS = 6  # of the polynomials by which ONNX Runtime evaluates a logistic function (MlasComputeLogistic)
_INDEXES = {"Gather", "OneHot", "Equal"}


def accumulation_lengths(model: onnx.ModelProto) -> list[int]:
    """For each linear operator with stored weights, the number of products that one of its outputs adds up."""
    shapes = {tensor.name: tuple(tensor.dims) for graph in _graphs(model.graph) for tensor in graph.initializer}
    nodes = (node for graph in _graphs(model.graph) for node in graph.node)
    return [length for node in nodes if (length := accumulation_length(node, shapes))]


def logistic_error(u: float) -> float:
    """What ONNX Runtime's Sigmoid leaves of any value: 1/2 + p(x) / q(x), two polynomials, near 0 cancels to this.

    Args:
        u: unit roundoff of the format.
    """
    return LOGISTIC_TERMS * u / 2


def logistic_outputs(model: onnx.ModelProto) -> frozenset[str]:
    """The outputs of a graph whose values a Sigmoid has computed."""
    writers = {name: node for node in model.graph.node for name in node.output}

    def is_logistic(name: str) -> bool:
        while name in writers and writers[name].op_type in _CARRIES:
            name = writers[name].input[0]
        return name in writers and writers[name].op_type == "Sigmoid"

    return frozenset(value.name for value in model.graph.output if is_logistic(value.name))


def accumulation_length(node: NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The number of products that one output of a node adds up; 0 where it is not linear with a weight in `shapes`."""
    for position in (1, 0):
        if len(node.input) > position and node.input[position] in shapes:
            return sum(_length(node, position, shapes[node.input[position]]))
    return 0


def _length(node: NodeProto, position: int, shape: tuple[int, ...]) -> list[int]:
    flags = {attribute.name: attribute.i for attribute in node.attribute}
    if node.op_type == "Conv" and position == 1:  # (M, C / group, kernel)
        return [math.prod(shape[1:])]
    if node.op_type == "ConvTranspose" and position == 1:  # (C, M / group, kernel)
        return [shape[0] // max(flags.get("group", 1), 1) * math.prod(shape[2:])]
    if node.op_type == "Gemm":
        transposed = bool(flags.get("transB" if position else "transA", 0))
        return [shape[int(transposed)] if position else shape[1 - int(transposed)]]
    if node.op_type == "MatMul":
        return [shape[-2] if position and len(shape) > 1 else shape[-1]]
    if node.op_type in {"LSTM", "GRU", "RNN"}:  # (directions, gates * hidden, inputs)
        return [shape[-1]]
    return []


def coarsest_format(model: onnx.ModelProto) -> str:
    """The floating-point format of the least precision among the stored weights; float32 where there are none."""
    found = {tensor.data_type for graph in _graphs(model.graph) for tensor in graph.initializer}
    return next((name for kind, name in _FORMATS.items() if kind in found), "float32")


def quantizes(model: onnx.ModelProto) -> bool:
    """Whether a node rounds to whole steps of a scale."""
    return any("Quantize" in node.op_type or node.op_type.startswith("QLinear") for node in _all_nodes(model))


def _all_nodes(model: onnx.ModelProto) -> Iterator[NodeProto]:
    for graph in _graphs(model.graph):
        yield from graph.node


def input_axes(model: onnx.ModelProto) -> dict[str, tuple[int | str | None, ...]]:
    """The axes of each input: numbers where they are fixed, names or None where they are dynamic."""
    axes: dict[str, tuple[int | str | None, ...]] = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        axes[value.name] = tuple(_axis(dim) for dim in dims)
    return axes


def _axis(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if dim.HasField("dim_value"):
        return dim.dim_value if dim.dim_value >= 0 else None
    return None if dim.dim_param in {"", "?"} else dim.dim_param


def input_facts(model: onnx.ModelProto) -> dict[str, InputFacts]:
    """What the first operators tell of each input: the table it indexes, the statistics its BatchNorm expects."""
    facts: dict[str, InputFacts] = {}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for value in model.graph.input:
        for node, position in readers(model.graph, value.name):
            size = _indexed(node, position, constants)
            if size is not None:
                facts[value.name] = _smaller(facts.get(value.name), size)
            elif node.op_type == "BatchNormalization" and position == 0 and value.name not in facts:
                mean, variance = (constants.get(name) for name in node.input[3:5])
                if mean is not None and variance is not None:
                    facts[value.name] = _statistics(mean, variance)
    return facts


def _indexed(node: NodeProto, position: int, constants: Mapping[str, TensorProto]) -> int | None:
    """How many integers an operator knows at one of its inputs: rows of a table, or classes of a one-hot code."""
    others = [constants.get(name) for index, name in enumerate(node.input) if index != position]
    first = others[0] if others else None
    if first is None:
        return None
    if node.op_type == "Gather" and position == 1:
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
        return int(first.dims[axis])
    numbers = numpy_helper.to_array(first) if node.op_type in {"OneHot", "Equal"} else np.zeros(0)
    if numbers.dtype.kind not in "iu":
        return None
    if node.op_type == "OneHot" and position == 0 and numbers.size == 1:
        return int(numbers.reshape(()))
    return int(numbers.max()) + 1 if node.op_type == "Equal" and numbers.size > 1 and numbers.max() > 0 else None


def _smaller(known: InputFacts | None, size: int) -> InputFacts:
    return InputFacts(integers_below=min(size, known.integers_below if known and known.integers_below else size))


def _statistics(mean: TensorProto, variance: TensorProto) -> InputFacts:
    mean_64, variance_64 = (numpy_helper.to_array(tensor).astype(np.float64) for tensor in (mean, variance))
    return InputFacts(mean=mean_64, deviation=np.sqrt(np.where(variance_64 > 0, variance_64, 1.0)))


def readers(graph: GraphProto, name: str) -> Iterator[tuple[NodeProto, int]]:
    """The nodes that read a value as it is, or through a cast or another shape for indices."""
    for node in graph.node:
        for position, read in enumerate(node.input):
            if read != name:
                continue
            if node.op_type in _SAME_VALUES and position == 0:
                yield from ((n, p) for n, p in readers(graph, node.output[0]) if _keeps_meaning(node, n))
            else:
                yield node, position


def _keeps_meaning(between: NodeProto, reader: NodeProto) -> bool:
    """Indices survive any reshape; channel statistics only what leaves every axis in place."""
    return reader.op_type in _INDEXES or between.op_type in {"Identity", "Cast"}


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)
            for inner in attribute.graphs:
                yield from _graphs(inner)
