"""Which channels the inputs ever activate: a channel behind a ReLU that stays 0 hides what is wrong with its weights.

    covered(c)  <=>  min_{feeds, rows, positions} y[c] < max_{feeds, rows, positions} y[c]

for y behind an activation with a flat piece (ReLU, Clip, hard sigmoid, hard swish). Both are taken in ONNX Runtime
while the unfolded graph runs there without optimizations: two more outputs per activation, one number per channel.
"""

from __future__ import annotations

import ast
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from bnfold.graph import operators as op
from bnfold.graph.operators import Trait, is_onnx, kind_of
from bnfold.records import Coverage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import onnx
    from onnx import GraphProto, NodeProto

__all__ = ["Activity", "watched"]

_PREFIX = "bnfold.activity/"
_SCOPES = "pkg.torch.onnx.name_scopes"
_AXES_AS_INPUT_SINCE = 18  # opset of ReduceMax and ReduceMin


@dataclass(frozen=True)
class _Point:
    """An activation, and how its output becomes (rest, channels, rest)."""

    layer: str
    output: str
    shape: tuple[int, ...]


class Activity:
    """The smallest and largest value of every channel, over all inputs so far."""

    def __init__(self, layers: Sequence[str]) -> None:
        self.layers = tuple(layers)
        self._low: list[np.ndarray | None] = [None] * len(layers)
        self._high: list[np.ndarray | None] = [None] * len(layers)

    def take(self, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Take in what belongs to the activations, and give back the rest."""
        for number in range(len(self.layers)):
            low, high = (outputs[f"{_PREFIX}{number}/{end}"] for end in ("low", "high"))
            before_low, before_high = self._low[number], self._high[number]
            self._low[number] = low if before_low is None else np.minimum(before_low, low)
            self._high[number] = high if before_high is None else np.maximum(before_high, high)
        return {name: value for name, value in outputs.items() if not name.startswith(_PREFIX)}

    def coverage(self) -> Coverage:
        """The counts; a layer is named if it has channels that were never active."""
        n_channels = 0
        layers: dict[str, int] = {}
        for name, low, high in zip(self.layers, self._low, self._high, strict=True):
            if low is None or high is None:
                continue
            n_channels += low.size
            n_still = int(np.count_nonzero(low == high))
            if n_still:
                layers[name] = layers.get(name, 0) + n_still
        return Coverage(n_channels, sum(layers.values()), layers)


@contextmanager
def watched(model: onnx.ModelProto) -> Iterator[Activity]:
    """Give a model, while the block runs, the outputs that `Activity.take` reads.

    Activations whose channel axis is not certain, and those inside subgraphs, are not watched.
    """
    graph = model.graph
    n_nodes, n_outputs, n_tensors = len(graph.node), len(graph.output), len(graph.initializer)
    opset = next((entry.version for entry in model.opset_import if is_onnx(entry.domain)), 1)
    points = list(_points(graph))
    for number, point in enumerate(points):
        _watch(graph, number, point, opset)
    try:
        yield Activity([point.layer for point in points])
    finally:
        del graph.node[n_nodes:], graph.output[n_outputs:], graph.initializer[n_tensors:]


def _points(graph: GraphProto) -> Iterator[_Point]:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if kind_of(node).has(Trait.FLAT):
            shape = _channel_shape(node, producers, shapes)
            if shape is not None:
                yield _Point(_layer(node), node.output[0], shape)


def _channel_shape(
    node: NodeProto, producers: Mapping[str, NodeProto], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[int, ...] | None:
    """The argument of a Reshape to three axes with the channels second; None where it is not known where they are."""
    current: NodeProto | None = node
    while current is not None:
        kind = kind_of(current)
        if kind.channels == 1:
            return (0, 0, -1)
        if kind == op.MatMul and len(shapes.get(current.input[1], ())) > 1:
            return (-1, shapes[current.input[1]][-1], 1)
        if not kind.has(Trait.POINTWISE) and kind != op.LayerNormalization:
            return None
        data = [name for name in current.input if name not in shapes]
        current = producers.get(data[0]) if data else None
    return None


def _layer(node: NodeProto) -> str:
    """The module that holds the activation, as the user names it, else the node's own name."""
    scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
    names = ast.literal_eval(scopes)
    return str(names[-2]) if len(names) > 1 and names[-2] else node.name or node.output[0]


def _watch(graph: GraphProto, number: int, point: _Point, opset: int) -> None:
    name = f"{_PREFIX}{number}"
    graph.initializer.append(numpy_helper.from_array(np.array(point.shape, dtype=np.int64), f"{name}/shape"))
    graph.initializer.append(numpy_helper.from_array(np.array([0, 2], dtype=np.int64), f"{name}/axes"))
    graph.node.append(helper.make_node(op.Cast, [point.output], [f"{name}/float"], to=TensorProto.FLOAT))
    graph.node.append(helper.make_node(op.Reshape, [f"{name}/float", f"{name}/shape"], [f"{name}/flat"]))
    for end, operator in (("low", op.ReduceMin), ("high", op.ReduceMax)):
        axes = [f"{name}/axes"] if opset >= _AXES_AS_INPUT_SINCE else []
        output = f"{name}/{end}"
        node = helper.make_node(operator, [f"{name}/flat", *axes], [output], keepdims=0)
        if not axes:
            node.attribute.append(helper.make_attribute("axes", [0, 2]))
        graph.node.append(node)
        graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
