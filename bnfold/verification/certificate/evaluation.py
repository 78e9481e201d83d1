"""Some operators of a graph in float64, on values of the caller's choice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import helper

from bnfold.errors import InputRefused
from bnfold.graph.float64 import Float64Graph
from bnfold.graph.float64_values import widened

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from onnx import NodeProto, TensorProto

__all__ = ["Arrays", "evaluate", "evaluate_as_written"]

Arrays = dict[str, np.ndarray]


def evaluate(
    nodes: Sequence[NodeProto],
    feed: Mapping[str, np.ndarray],
    outputs: Iterable[str],
    tensors: Mapping[str, TensorProto],
    opsets: Mapping[str, int],
) -> Arrays:
    """The outputs by name, in float64.

    Args:
        nodes: in topological order.
        feed: what they read, but for what is stored in `tensors`; it comes first.
        outputs: names.
        tensors: stored values by name, widened while an operator reads them.
        opsets: versions by domain.

    Raises:
        InputRefused: an operator has no float64 meaning, or not on these inputs.
    """
    model = _model(nodes, outputs, opsets)
    try:
        return Float64Graph(model, tensors or {"": onnx.TensorProto()}).evaluate(feed)
    except ValueError as error:  # a sequence of tensors is no array
        raise InputRefused("a value is not a tensor", where=nodes[-1].output[0], found=f"{error}"[:200]) from error


def evaluate_as_written(
    nodes: Sequence[NodeProto],
    tensors: Mapping[str, np.ndarray],
    outputs: Sequence[str],
    opsets: Mapping[str, int],
) -> Arrays:
    """The same in the precision that the graph is written in, widened afterwards: computed constants, as folded.

    Raises:
        InputRefused: an operator cannot be evaluated.
    """
    from onnx.reference import ReferenceEvaluator

    model = _model(nodes, outputs, opsets)
    for name in tensors:
        model.graph.input.append(onnx.ValueInfoProto(name=name))
    try:
        found = ReferenceEvaluator(model).run(None, dict(tensors))
    except Exception as error:  # of many types, as the evaluator's operators raise them
        raise InputRefused("a constant cannot be computed", where=outputs[0], found=f"{error}"[:200]) from error
    return {name: widened(np.asarray(array)) for name, array in zip(outputs, found, strict=True)}


def _model(nodes: Sequence[NodeProto], outputs: Iterable[str], opsets: Mapping[str, int]) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "region", [], [onnx.ValueInfoProto(name=name) for name in outputs])
    versions = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    return helper.make_model(graph, opset_imports=versions)
