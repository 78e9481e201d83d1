"""The form in which the rules read a graph: functions inlined, constants computed, shapes known."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxscript import optimizer

from bnfold.graph import operators as op
from bnfold.graph.attempts import attempted
from bnfold.graph.constants import constant, operand, store_constant
from bnfold.graph.edit import bypass
from bnfold.graph.inference import infer_shapes
from bnfold.graph.operators import kind_of
from bnfold.graph.shapes import static_length
from bnfold.graph.subgraphs import subgraphs

__all__ = ["canonicalise"]

_NO_LIMIT = 1 << 62
_TO_THE_END = np.iinfo(np.int32).max  # from which on exporters mean the end of an axis, however long it is


def canonicalise(model: ir.Model) -> None:
    """Compute what is constant, in place; operators on data stay, but for Slices that take all there is.

    Functions must be inlined. Exporters leave small computations on parameters in the graph (a bias as Expand of a
    zero, a weight as Transpose of another, the scale of a frozen BatchNorm as four operators): each becomes one
    initializer.
    """
    _compute_constants(model)
    infer_shapes(model)
    if any(kind_of(node) == op.CastLike for node in model.graph):  # to the type of a value that was not known before
        _compute_constants(model)
    for graph in (model.graph, *subgraphs(model.graph)):
        _drop_whole_slices(graph)
    _write_reshapes(model.graph)
    passes.RemoveUnusedNodesPass()(model)


def _compute_constants(model: ir.Model) -> None:
    attempted(
        "computing constants", "the graph",
        lambda: optimizer.fold_constants(model, input_size_limit=_NO_LIMIT, output_size_limit=_NO_LIMIT),
    )  # fmt: skip
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.RemoveUnusedNodesPass()(model)
    for graph in (model.graph, *subgraphs(model.graph)):
        _store_text(graph)


def _store_text(graph: ir.Graph) -> None:
    """Hold computed strings as the IR can write them."""
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and tensor.dtype == ir.DataType.STRING and not isinstance(tensor, ir.StringTensor):
            texts = [text if isinstance(text, bytes) else str(text).encode() for text in tensor.numpy().ravel()]
            value.const_value = ir.StringTensor(texts, shape=ir.Shape(tensor.shape.numpy()), name=value.name)


def _drop_whole_slices(graph: ir.Graph) -> None:
    """Take out each ONNX Slice of whole axes: torch.onnx.export writes one for every `:` of an index `x[:, 0]`."""
    for node in list(graph):
        if kind_of(node) == op.Slice and constant(node.inputs[0]) is None and _takes_all(node):
            bypass(graph, node)


def _takes_all(node: ir.Node) -> bool:
    """Whether a Slice with constant bounds starts at 0, leaves nothing out, and ends at or behind the end."""
    given = [value for value in node.inputs[1:] if value is not None]
    arrays = [constant(value) for value in node.inputs[1:]]
    if len([array for array in arrays if array is not None]) != len(given) or len(arrays) < 2:
        return False
    starts, ends, axes, steps = [*arrays, None, None][:4]
    if starts is None or ends is None or starts.any() or (steps is not None and (steps != 1).any()):
        return False
    lengths = [static_length(operand(node), int(axis)) for axis in (range(ends.size) if axes is None else axes)]
    return all(
        end >= _TO_THE_END or (length is not None and end >= length)
        for end, length in zip(ends.tolist(), lengths, strict=True)
    )


def _write_reshapes(graph: ir.Graph) -> None:
    """Write the shape of a Reshape as a constant where all but one of its lengths are known: (-1, 3, 6, 64, 196).

    torch.onnx.export computes it from the batch, and ONNX Runtime, which cannot see through that computation, then
    leaves out optimizations behind it (Slices of one tensor into a Split, Transpose into MatMul).
    """
    for node in graph:
        if kind_of(node) != op.Reshape or constant(node.inputs[1]) is not None:
            continue
        value = node.outputs[0]
        known = [static_length(value, axis) for axis in range(len(value.shape or ()))]
        if known.count(None) == 1 and 0 not in known:
            shape = np.array([-1 if length is None else length for length in known], np.int64)
            node.replace_input_with(1, store_constant(graph, f"{value.name}_shape", shape, ir.DataType.INT64))
