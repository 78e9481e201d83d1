"""The float operators of a graph, one by one in float64; one that has no meaning there runs in ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx

from bnfold.errors import InputRefused
from bnfold.graph.float64 import Float64Graph
from bnfold.graph.float64_values import reads
from bnfold.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FloatNodes", "evaluate_float"]

Values = dict[str, np.ndarray]


class FloatNodes:
    """The float operators of a model.

    Args:
        model: that they belong to.

    Attributes:
        unknown: the names of nodes that ran in ONNX Runtime, in the model's own precision.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._graphs: dict[str, Float64Graph] = {}
        self.unknown: set[str] = set()

    def run(self, node: onnx.NodeProto, values: Mapping[str, np.ndarray]) -> Values:
        """What a node writes, by name, floats in float64.

        Args:
            node: of the model.
            values: by name, of which it reads some; floats in any precision.
        """
        feed = {name: values[name] for name in reads(node) if name in values}
        if node.name not in self.unknown:
            try:
                return self._graph(node).evaluate(feed)
            except InputRefused:
                self.unknown.add(node.name)
        return self._in_runtime(node, feed)

    def _graph(self, node: onnx.NodeProto) -> Float64Graph:
        key = node.output[0]
        if key not in self._graphs:
            inputs = [onnx.ValueInfoProto(name=name) for name in sorted(set(reads(node)))]
            self._graphs[key] = Float64Graph(self._alone(node, inputs))
        return self._graphs[key]

    def _in_runtime(self, node: onnx.NodeProto, feed: Mapping[str, np.ndarray]) -> Values:
        narrow = {
            name: value.astype(np.float32) if value.dtype == np.float64 else value for name, value in feed.items()
        }
        inputs = [
            onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(x.dtype), [None] * x.ndim)
            for name, x in narrow.items()
        ]
        session = open_session(self._alone(node, inputs).SerializeToString(), threads=1)
        names = [name for name in node.output if name]
        found = zip(names, session.run(names, narrow), strict=True)
        return {name: y.astype(np.float64) if y.dtype == np.float32 else y for name, y in found}

    def _alone(self, node: onnx.NodeProto, inputs: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
        outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        graph = onnx.helper.make_graph([node], "float", inputs, outputs)
        return onnx.ModelProto(ir_version=self._model.ir_version, opset_import=self._model.opset_import, graph=graph)


def evaluate_float(model: onnx.ModelProto, feed: Mapping[str, np.ndarray]) -> Values:
    """The outputs of a float graph in float64, by name, as far as its operators have a meaning there.

    Args:
        model: the graph.
        feed: of its inputs.
    """
    try:
        return Float64Graph(model).evaluate(feed)
    except InputRefused:
        nodes = FloatNodes(model)
        values: Values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        values.update(feed)
        for node in model.graph.node:
            values.update(nodes.run(node, values))
        return {value.name: values[value.name] for value in model.graph.output}
