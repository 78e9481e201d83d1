"""Which operators are computed in float16, and why each other one stays in float32.

An operator can be in float16 if ONNX defines it there, nothing that it reads or writes comes near to the largest number
that float16 has, and no parameter leaves its range. Values are judged with a margin, for inputs that calibration did
not see.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir

from bnfold.graph import operators as op
from bnfold.graph.constants import constant
from bnfold.graph.operators import Trait, having, kind_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from bnfold.records.recipes import PrecisionReason

__all__ = ["LARGEST", "MARGIN", "SMALLEST", "half_inputs", "half_outputs", "islands", "out_of_range"]

LARGEST = float(np.finfo(np.float16).max)  # 65504
SMALLEST = float(np.finfo(np.float16).tiny)  # 2^-14, the smallest normal number
MARGIN = 4.0
"""How much larger a value may be on other inputs than on the samples that were seen."""
_HALF = "tensor(float16)"
_NEUTRAL = frozenset({op.Cast, op.CastLike})  # written again at the borders
_PARAMETERS_OF_VALUES = having(Trait.LINEAR)
"""Operators that sum products: a small weight among larger ones is lost without harm."""


def half_inputs(node: ir.Node, opset: int) -> list[int]:
    """The inputs that are float32, and float16 where the operator is."""
    schema = _schema(node, opset)
    if schema is None or kind_of(node) in _NEUTRAL or _has_subgraph(node):
        return []
    found = [
        index
        for index, value in enumerate(node.inputs)
        if value is not None
        and value.dtype == ir.DataType.FLOAT
        and _allows_half(schema, _formal(schema.inputs, index))
    ]
    return found if any(constant(node.inputs[index]) is None for index in found) else []


def half_outputs(node: ir.Node, opset: int) -> list[int]:
    """The outputs that are float16 where the operator is: of the types of such inputs."""
    schema = _schema(node, opset)
    if schema is None:
        return []
    types = {_formal(schema.inputs, index) for index in half_inputs(node, opset)}
    return [index for index, value in enumerate(node.outputs) if value.name and _formal(schema.outputs, index) in types]


def islands(
    graph: ir.Graph, opset: int, peaks: Mapping[str, float], asked: Collection[str] = ()
) -> dict[str, PrecisionReason]:
    """Why operators on floats stay in float32, by the name of their node.

    Args:
        graph: prepared, in the units of the file.
        opset: of the file.
        peaks: the largest magnitude of every float value, by name.
        asked: nodes that are to stay.
    """
    found: dict[str, PrecisionReason] = {}
    for node in graph:
        if kind_of(node) in _NEUTRAL or not any(_is_single(value) for value in (*node.inputs, *node.outputs)):
            continue
        reason = _reason(node, opset, peaks, asked)
        if reason is not None:
            found[str(node.name)] = reason
    return found


def _reason(node: ir.Node, opset: int, peaks: Mapping[str, float], asked: Collection[str]) -> PrecisionReason | None:
    if str(node.name) in asked:
        return "asked"
    read, written = half_inputs(node, opset), half_outputs(node, opset)
    if not read or not written:
        return "no_kernel"
    values = [*(node.inputs[index] for index in read), *(node.outputs[index] for index in written)]
    if any(out_of_range(value, peaks) for value in values if value is not None and constant(value) is None):
        return "range"
    sums = kind_of(node) in _PARAMETERS_OF_VALUES
    if any(_leaves_range(constant(node.inputs[index]), sums=sums) for index in read):
        return "range"
    return None


def out_of_range(value: ir.Value, peaks: Mapping[str, float]) -> bool:
    """Whether a value may overflow on inputs like those that were seen."""
    return peaks.get(str(value.name), 0.0) * MARGIN > LARGEST


def _leaves_range(array: np.ndarray | None, *, sums: bool) -> bool:
    """Whether a parameter overflows in float16, or, where it is no term of a sum, becomes 0 or loses digits."""
    if array is None or not array.size:
        return False
    magnitudes = np.abs(array.astype(np.float64))
    if magnitudes.max() > LARGEST:
        return True
    return not sums and bool(((magnitudes > 0) & (magnitudes < SMALLEST)).any())


def _is_single(value: ir.Value | None) -> bool:
    return value is not None and value.dtype == ir.DataType.FLOAT


def _has_subgraph(node: ir.Node) -> bool:
    return any(attr.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attr in node.attributes.values())


def _schema(node: ir.Node, opset: int) -> onnx.defs.OpSchema | None:
    if node.domain not in ("", "ai.onnx"):
        return None
    try:
        return onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError:
        return None


def _formal(formals: Sequence[onnx.defs.OpSchema.FormalParameter], index: int) -> str:
    """The type of the input or output at an index; the last one stands for all that follow."""
    return formals[min(index, len(formals) - 1)].type_str if formals else ""


def _allows_half(schema: onnx.defs.OpSchema, type_name: str) -> bool:
    constraint = next((own for own in schema.type_constraints if own.type_param_str == type_name), None)
    return constraint is not None and _HALF in constraint.allowed_type_strs
