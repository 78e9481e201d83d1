"""What decides how precisely an ONNX graph is computed: its format, the length of its sums, what its kernels leave."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from onnx import TensorProto

from bnfold.graph import operators as op
from bnfold.graph.operators import Trait, having, kind_of
from bnfold.numerics.error_bounds import accumulation_error, unit_roundoff

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import onnx
    from onnx import GraphProto, NodeProto

__all__ = [
    "LOGISTIC_TERMS",
    "Precision",
    "accumulation_length",
    "accumulation_lengths",
    "coarsest_format",
    "logistic_error",
    "logistic_outputs",
    "quantizes",
]

_FORMATS = {  # coarsest first
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.FLOAT16: "float16",
    TensorProto.FLOAT: "float32",
    TensorProto.DOUBLE: "float64",
}
_CARRIES = having(Trait.SAME_VALUES) | {op.Transpose, op.Slice}
LOGISTIC_TERMS = 6  # of the polynomials by which ONNX Runtime evaluates a logistic function (MlasComputeLogistic)


@dataclass(frozen=True)
class Precision:
    """The precision that a file can have.

    Attributes:
        stored_format: the coarsest floating-point format among its weights, "float32" say.
        longest_sum: the most products that one output of its linear operators adds up, 1 at least.
        logistic: its outputs whose values a Sigmoid has computed.
    """

    stored_format: str
    longest_sum: int
    logistic: frozenset[str]

    @classmethod
    def of(cls, model: onnx.ModelProto) -> Self:
        """That of a graph; the shapes of its parameters are enough."""
        longest = max(accumulation_lengths(model), default=1)
        return cls(coarsest_format(model), longest, logistic_outputs(model))

    @property
    def u(self) -> float:
        """Unit roundoff of the format."""
        return unit_roundoff(self.stored_format)

    @property
    def relative_bound(self) -> float:
        """What accumulation alone leaves, relative to an output's size."""
        return accumulation_error(self.longest_sum, self.u)

    @property
    def worst_order(self) -> float:
        """What the longest sum leaves in its worst order, over one rounding of each of its terms."""
        return math.sqrt(1 + self.longest_sum)


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
        while name in writers and kind_of(writers[name]) in _CARRIES:
            name = writers[name].input[0]
        return name in writers and kind_of(writers[name]) == op.Sigmoid

    return frozenset(value.name for value in model.graph.output if is_logistic(value.name))


def accumulation_length(node: NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The number of products that one output of a node adds up; 0 where it is not linear with a weight in `shapes`."""
    cost = kind_of(node).cost
    for position in (1, 0):
        if len(node.input) > position and node.input[position] in shapes:
            flags = {attribute.name: attribute.i for attribute in node.attribute}
            return 0 if cost is None else cost.sums(flags, position, shapes[node.input[position]])
    return 0


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


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _graphs(attribute.g)
            for inner in attribute.graphs:
                yield from _graphs(inner)
