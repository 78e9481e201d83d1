"""The form in which the rules read a graph: functions inlined, constants computed, shapes known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxscript import optimizer

__all__ = ["canonicalise", "infer_shapes"]

_NO_LIMIT = 1 << 62


def infer_shapes(model: ir.Model) -> None:
    """Fill in the shapes and element types that ONNX can infer, in place; what the exporter stated stays.

    Inference writes the graph out and reads it again, which takes longer than the fold: without a gap it is left out.
    """
    nodes = ir.traversal.RecursiveGraphIterator(model.graph)
    if all(value.shape is not None and value.dtype is not None for value in _read_outputs(nodes)):
        return
    stated = {value: value.shape for node in model.graph for value in node.outputs if value.shape is not None}
    passes.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    for value, shape in stated.items():
        value.shape = shape


def _read_outputs(nodes: Iterable[ir.Node]) -> Iterator[ir.Value]:
    """The outputs of nodes that somebody reads."""
    for node in nodes:
        yield from (value for value in node.outputs if value.uses() or value.is_graph_output())


def canonicalise(model: ir.Model) -> None:
    """Compute what is constant, in place; no operator on data is rewritten.

    Exporters leave small computations on parameters in the graph (a bias as Expand of a zero, a weight as Transpose of
    another, the scale of a frozen BatchNorm as four operators): each becomes one initializer.
    """
    if model.functions:
        passes.InlinePass()(model)
    optimizer.fold_constants(model, input_size_limit=_NO_LIMIT, output_size_limit=_NO_LIMIT)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.RemoveUnusedNodesPass()(model)
    infer_shapes(model)
