"""The values of a slice of a graph, on values of the caller's choice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.verification.certificate.evaluation import Arrays, evaluate
from bnfold.verification.certificate.regions import Slice, captured_aliases

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from onnx import TensorProto

    from bnfold.verification.certificate.graph import Graph

__all__ = ["evaluate_slice"]


def evaluate_slice(graph: Graph, part: Slice, feed: Mapping[str, np.ndarray], also: Sequence[str] = ()) -> Arrays:
    """The value that a slice computes, and others inside it."""
    if not part.nodes:
        known = feed[part.target] if part.target in feed else graph.constant(part.target)
        return {part.target: known}
    tensors: dict[str, TensorProto] = {}
    values = dict(feed)
    for name in part.constants:
        if name in values:
            continue
        owner = graph.owner(name)
        if owner is not None and name in owner.tensors:
            tensors[name] = owner.tensors[name]
        else:
            values[name] = graph.constant(name)
    for name, first in captured_aliases(graph, part).items():
        if first in values:
            values[name] = values[first]
    return evaluate(part.nodes, values, dict.fromkeys((part.target, *also)), tensors, graph.opsets)
