"""The form in which the rules read a graph: functions inlined, constants computed, shapes known."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxscript import optimizer

from bnfold.graph.constants import constant, store_constant
from bnfold.graph.inference import infer_shapes
from bnfold.graph.shapes import static_length

__all__ = ["canonicalise"]

_NO_LIMIT = 1 << 62


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
    _write_reshapes(model.graph)
    passes.RemoveUnusedNodesPass()(model)


def _write_reshapes(graph: ir.Graph) -> None:
    """Write the shape of a Reshape as a constant where all but one of its lengths are known: (-1, 3, 6, 64, 196).

    torch.onnx.export computes it from the batch, and ONNX Runtime, which cannot see through that computation, then
    leaves out optimizations behind it (Slices of one tensor into a Split, Transpose into MatMul).
    """
    for node in graph:
        if node.op_type != "Reshape" or node.domain or constant(node.inputs[1]) is not None:
            continue
        value = node.outputs[0]
        known = [static_length(value, axis) for axis in range(len(value.shape or ()))]
        if known.count(None) == 1 and 0 not in known:
            shape = np.array([-1 if length is None else length for length in known], np.int64)
            node.replace_input_with(1, store_constant(graph, f"{value.name}_shape", shape, ir.DataType.INT64))
