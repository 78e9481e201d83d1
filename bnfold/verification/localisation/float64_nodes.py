"""A graph in float64, node by node: each one evaluated on inputs of the caller's choice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from bnfold.errors import InputRefused
from bnfold.graph import operators as op
from bnfold.graph.float64 import to_float64
from bnfold.graph.float64_operators import OPERATORS
from bnfold.graph.operators import kind_of
from bnfold.verification.execution.roundings import PARAMETRIC

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from onnx.reference import ReferenceEvaluator

__all__ = ["Arrays", "Nodes", "node_reads", "same_attributes", "same_definition", "widened"]

Arrays = dict[str, np.ndarray]


class Nodes:
    """The nodes of a graph in float64, in their topological order; what is computed of constants is one of them.

    A BatchNormalization with training_mode=1, which has no place in a file for inference, is evaluated with the
    statistics of its batch.

    Args:
        model: the graph in its own precision, external data loaded.

    Raises:
        InputRefused: an operator has no float64 meaning.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        model, self.batch_statistics = _without_training_mode(model)
        wide = to_float64(model)
        self.constants: Arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in wide.graph.initializer}
        self.outputs = tuple(value.name for value in wide.graph.output)
        self._opsets = {entry.domain: entry.version for entry in wide.opset_import}
        self._evaluators: dict[str, ReferenceEvaluator] = {}
        nodes = []
        for node in wide.graph.node:
            if self.reads(node) or set(node.output) & set(self.outputs):
                nodes.append(node)
            else:
                self.constants |= self.run(node, {})
        self.nodes: tuple[NodeProto, ...] = tuple(nodes)
        self.writers: dict[str, NodeProto] = {name: node for node in self.nodes for name in node.output if name}

    def reads(self, node: NodeProto) -> tuple[str, ...]:
        """The values that a node reads, those that its subgraphs capture included, constants left out."""
        return tuple(name for name in node_reads(node) if name not in self.constants)

    def parameters(self, node: NodeProto) -> Arrays:
        """The stored numbers of a node, those that a fold computes."""
        if kind_of(node) not in PARAMETRIC:
            return {}
        found = {name: self.constants[name] for name in node.input if name in self.constants}
        return {name: array for name, array in found.items() if array.dtype.kind == "f"}

    def run(self, node: NodeProto, values: Mapping[str, np.ndarray]) -> Arrays:
        """The outputs of one node by name; `values` holds what it reads, and may replace constants.

        Raises:
            InputRefused: the operator is not known, or does not take inputs of these shapes.
        """
        from onnx.reference import ReferenceEvaluator

        reads = node_reads(node)
        arrays = {name: values[name] if name in values else self.constants[name] for name in reads}
        if node.output[0] in self.batch_statistics:
            arrays |= _statistics(node, arrays[node.input[0]])
        key = next(filter(None, node.output))
        try:
            evaluator = self._evaluators.get(key)
            if evaluator is None:
                outputs = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
                inputs = [helper.make_empty_tensor_value_info(name) for name in reads]
                graph = helper.make_graph([node], "node", inputs, outputs)
                evaluator = ReferenceEvaluator(graph, opsets=self._opsets, new_ops=list(OPERATORS))
                self._evaluators[key] = evaluator
            with np.errstate(all="ignore"):  # as in Float64Graph; what is not finite diverges
                results = evaluator.run(None, arrays)
        except Exception as error:
            raise InputRefused(
                "an operator cannot be evaluated in float64",
                where=f"{node.op_type} {node.name or node.output[0]}",
                found=f"{type(error).__name__}: {error}",
            ) from error
        computed: list[Any] = [own if isinstance(own, list) else np.asarray(own) for own in results]  # or sequences
        return dict(zip((name for name in node.output if name), computed, strict=True))

    def evaluate(self, feed: Mapping[str, np.ndarray]) -> Arrays:
        """Every value of the graph, constants left out."""
        values = widened(feed)
        for node in self.nodes:
            values |= self.run(node, values)
        return values


def widened(feed: Mapping[str, np.ndarray]) -> Arrays:
    """Inputs by name, those of floating point in float64."""
    return {name: array.astype(np.float64) if array.dtype.kind not in "iub" else array for name, array in feed.items()}


def same_definition(ours: tuple[Nodes, NodeProto], theirs: tuple[Nodes, NodeProto], aligned: Mapping[str, str]) -> bool:
    """Whether two nodes compute the same, bit by bit, of inputs that `aligned` names in the other graph."""
    (a, x), (b, y) = ours, theirs
    if len(x.input) != len(y.input) or not same_attributes(x, y):
        return False
    if (x.output[0] in a.batch_statistics) != (y.output[0] in b.batch_statistics):
        return False
    for mine, other in (
        zip(node_reads(x), node_reads(y), strict=True) if len(node_reads(x)) == len(node_reads(y)) else [("", "?")]
    ):
        if mine in a.constants and other in b.constants:
            if not np.array_equal(a.constants[mine], b.constants[other]):
                return False
        elif aligned.get(mine) != other:
            return False
    return True


def same_attributes(x: NodeProto, y: NodeProto) -> bool:
    """Whether two nodes have the same operator with the same attributes."""
    return x.op_type == y.op_type and _attributes(x) == _attributes(y)


def _attributes(node: NodeProto) -> list[bytes]:
    return sorted(attribute.SerializeToString(deterministic=True) for attribute in node.attribute)


def node_reads(node: NodeProto) -> tuple[str, ...]:
    """The values that a node reads, constants and those that its subgraphs capture included, each once."""
    return tuple(dict.fromkeys([*(name for name in node.input if name), *_captured(node)]))


def _captured(node: NodeProto) -> Iterator[str]:
    """The names that subgraphs read from outside."""
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
            own |= {name for inner in graph.node for name in inner.output}
            read = [name for inner in graph.node for name in node_reads(inner)] + [value.name for value in graph.output]
            yield from (name for name in read if name not in own)


def _without_training_mode(model: onnx.ModelProto) -> tuple[onnx.ModelProto, frozenset[str]]:
    """The model with its BatchNorms in inference mode, and the outputs of those that were not."""
    training = [
        index
        for index, node in enumerate(model.graph.node)
        if kind_of(node) == op.BatchNormalization and any(a.name == "training_mode" and a.i for a in node.attribute)
    ]
    if not training:
        return model, frozenset()
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    for index in training:
        node = copied.graph.node[index]
        kept = [attribute for attribute in node.attribute if attribute.name != "training_mode"]
        del node.attribute[:], node.output[1:]
        node.attribute.extend(kept)
    return copied, frozenset(copied.graph.node[index].output[0] for index in training)


def _statistics(node: NodeProto, x: np.ndarray) -> Arrays:
    """Mean and variance over the batch and space, in place of the running ones (ONNX BatchNormalization-15)."""
    axes = (0, *range(2, x.ndim))
    return {node.input[3]: x.mean(axes), node.input[4]: x.var(axes)}
