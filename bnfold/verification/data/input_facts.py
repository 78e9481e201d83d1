"""What an ONNX graph tells of its inputs: their axes, the tables that they index, the statistics that they expect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import numpy_helper

from bnfold.graph import operators as op
from bnfold.graph.operators import Trait, having, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import onnx
    from onnx import GraphProto, NodeProto, TensorProto

__all__ = ["InputFacts", "input_axes", "input_facts", "readers"]

_SAME_VALUES = having(Trait.SAME_VALUES)
_INDEXES = {op.Gather, op.OneHot, op.Equal}


@dataclass(frozen=True)
class InputFacts:
    """What is known of an input: a bound of its integers (exclusive), mean and deviation per channel (axis 1)."""

    integers_below: int | None = None
    mean: np.ndarray | None = None
    deviation: np.ndarray | None = None


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
            elif kind_of(node) == op.BatchNormalization and position == 0 and value.name not in facts:
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
    if kind_of(node) == op.Gather and position == 1:
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
        return int(first.dims[axis])
    numbers = numpy_helper.to_array(first) if kind_of(node) in {op.OneHot, op.Equal} else np.zeros(0)
    if numbers.dtype.kind not in "iu":
        return None
    if kind_of(node) == op.OneHot and position == 0 and numbers.size == 1:
        return int(numbers.reshape(()))
    return int(numbers.max()) + 1 if kind_of(node) == op.Equal and numbers.size > 1 and numbers.max() > 0 else None


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
            if kind_of(node) in _SAME_VALUES and position == 0:
                yield from ((n, p) for n, p in readers(graph, node.output[0]) if _keeps_meaning(node, n))
            else:
                yield node, position


def _keeps_meaning(between: NodeProto, reader: NodeProto) -> bool:
    """Indices survive any reshape; channel statistics only what leaves every axis in place."""
    return kind_of(reader) in _INDEXES or kind_of(between) in {op.Identity, op.Cast}
