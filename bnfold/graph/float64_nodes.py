"""The evaluator of a float64 graph and its nodes: what it cannot do is refused in words."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper

from bnfold.errors import InputRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import onnx
    from onnx import NodeProto
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

__all__ = ["REMEDY", "evaluator_of", "own_operators", "place", "rounded", "run_node"]

CAUSE_LENGTH = 240  # characters
REMEDY = "take another reference, such as the PyTorch network itself"


def evaluator_of(structure: onnx.ModelProto) -> ReferenceEvaluator:
    """The evaluator of a graph; the first node that it has no operator for is refused."""
    from onnx.reference import ReferenceEvaluator

    from bnfold.graph.float64_operators import OPERATORS

    opsets = {entry.domain: entry.version for entry in structure.opset_import}
    try:
        return ReferenceEvaluator(structure, new_ops=list(OPERATORS))
    except Exception as whole:  # of many types, one for each way in which an operator is missing
        for node in structure.graph.node:
            try:
                alone = helper.make_graph([node], "node", [], [])
                ReferenceEvaluator(alone, opsets=opsets, new_ops=list(OPERATORS))
            except Exception as error:
                raise _not_evaluated(place(node), error) from error
        raise _not_evaluated("the graph", whole) from whole


def own_operators() -> frozenset[tuple[str, str]]:
    """Domain and name of each operator that is not left to ONNX's evaluator."""
    from bnfold.graph.float64_operators import OPERATORS

    return frozenset((operator.op_domain, operator.__name__) for operator in OPERATORS)


def run_node(node: OpRun, inputs: Sequence[Any], values: Mapping[str, Any]) -> Sequence[Any]:
    """The outputs of a node; what the evaluator's operators raise, of whatever type, says that it cannot."""
    try:
        run: Callable[..., Sequence[Any]] = node.run
        outputs = run(*inputs, context=values) if node.need_context() else run(*inputs)
    except MemoryError:
        raise
    except Exception as error:
        raise _not_evaluated(place(node.onnx_node), error.__cause__ or error) from error
    return outputs


def _not_evaluated(where: str, error: BaseException) -> InputRefused:
    cause = textwrap.shorten(str(error), CAUSE_LENGTH, placeholder=" ...")  # the evaluator may list all it knows
    found = f"{type(error).__name__}: {cause}"
    return InputRefused("an operator cannot be evaluated in float64", where=where, found=found, remedy=REMEDY)


def place(node: NodeProto) -> str:
    """A node as a refusal names it."""
    return f"{node.op_type} {node.name or node.output[0]}"


def rounded(value: Any, to: np.dtype) -> Any:
    """An array of float64 rounded to another format; anything else as it is."""
    is_float = isinstance(value, np.ndarray) and value.dtype == np.float64
    return value.astype(to).astype(np.float64) if is_float else value
