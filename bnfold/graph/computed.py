"""Constants that a graph computes from its parameters: which values these are, and what they are in float64."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import onnx
import onnx_ir as ir

from bnfold.graph import operators as op
from bnfold.graph.float64 import Float64Graph
from bnfold.graph.operators import kind_of

__all__ = ["Computed"]

# What parameters pass through on their way to the data: https://onnx.ai/onnx/operators
_MOVES = frozenset({op.Concat, op.Constant, op.Expand, op.Identity, op.Reshape, op.Squeeze, op.Transpose, op.Unsqueeze})
_ARITHMETIC = frozenset({op.Add, op.Cast, op.Div, op.Mul, op.Neg, op.Pow, op.Reciprocal, op.Sqrt, op.Sub})


class Computed:
    """The values of a model, functions inlined, that are constants or computed from constants by simple operators."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model
        self._computed: set[ir.Value] = set()
        for node in model.graph.all_nodes():  # in topological order
            simple = kind_of(node) in _MOVES | _ARITHMETIC
            if simple and all(value is None or value in self for value in node.inputs):
                self._computed.update(node.outputs)

    def __contains__(self, value: ir.Value | None) -> bool:
        if value is None or value.is_graph_input():
            return False
        return value.const_value is not None or value in self._computed

    def origin(self, value: ir.Value) -> ir.Value:
        """The value that was there before operators moved its elements: the parameter itself."""
        node = value.producer()
        while node is not None and kind_of(node) in _MOVES and node.inputs and node.inputs[0] is not None:
            value = node.inputs[0]
            node = value.producer()
        return value

    def evaluate(self, wanted: Iterable[ir.Value]) -> dict[ir.Value, np.ndarray]:
        """The constants in float64, those of integers as they are, by the operators that compute them in the graph."""
        wanted = dict.fromkeys(wanted)
        nodes, values = self._behind(wanted)
        names = {
            value: f"v{k}" for k, value in enumerate(values)
        }  # branches of an If may use one name each for its own
        leaves = {names[value]: value.const_value for value in values if value.const_value is not None}
        graph = onnx.helper.make_graph(
            [_renamed(node, names) for node in self._model.graph.all_nodes() if node in nodes],
            "constants",
            [],
            [onnx.ValueInfoProto(name=names[value]) for value in wanted],
        )
        opset = onnx.helper.make_opsetid("", self._model.opset_imports[""])
        found = Float64Graph(onnx.helper.make_model(graph, opset_imports=[opset]), leaves).evaluate({})
        return {value: found[names[value]] for value in wanted}

    def _behind(self, wanted: Iterable[ir.Value]) -> tuple[set[ir.Node], list[ir.Value]]:
        """The operators that compute the values, and all values that these read and write."""
        nodes, todo = set[ir.Node](), list(wanted)
        seen = dict.fromkeys(todo)
        while todo:
            value = todo.pop()
            node = value.producer()
            if value.const_value is None and node is not None:
                nodes.add(node)
                new = [v for v in (*node.inputs, *node.outputs) if v is not None and v not in seen]
                seen.update(dict.fromkeys(new))
                todo += new
        return nodes, list(seen)


def _renamed(node: ir.Node, names: Mapping[ir.Value, str]) -> onnx.NodeProto:
    proto = ir.to_proto(node)
    for field, values in ((proto.input, node.inputs), (proto.output, node.outputs)):
        field[:] = ["" if value is None else names[value] for value in values]
    return proto
