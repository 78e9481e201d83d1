"""The form in which the rules read a graph: functions inlined, constants computed, shapes known."""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxscript import optimizer

from bnfold.graph.inference import infer_shapes

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
