"""What is known of the integers in a value that holds a shape: `Concat(Slice(Shape(x)), [120, -1])` is (N, 120, -1)."""

from __future__ import annotations

import onnx_ir as ir

from bnfold.graph import operators as op
from bnfold.graph.constants import attribute, constant
from bnfold.graph.operators import kind_of

__all__ = ["Length", "elements_of"]

Length = int | ir.SymbolicDim | None

_DEEPEST = 16  # operators between a shape and where its parts come from
_SAME_ELEMENTS = frozenset({op.Cast, op.Identity, op.Reshape, op.Squeeze, op.Unsqueeze})


def elements_of(value: ir.Value | None, depth: int = _DEEPEST) -> list[Length] | None:
    """The elements of a value of integers in order, None for each that is not known; None if their number is not."""
    if value is None:
        return None
    array = constant(value)
    if array is not None:
        return [int(element) for element in array.ravel()] if array.dtype.kind in "iu" else None
    node = value.producer()
    found = _computed(node, depth) if node is not None and depth else None
    if found is not None:
        return found
    shape = value.shape
    if shape is None or len(shape) > 1 or not all(isinstance(length, int) for length in shape):
        return None
    return [None] * (int(shape[0]) if len(shape) else 1)  # type: ignore[arg-type]


def _computed(node: ir.Node, depth: int) -> list[Length] | None:
    kind = kind_of(node)
    if kind == op.Concat:
        parts = [elements_of(part, depth - 1) for part in node.inputs]
        known = [part for part in parts if part is not None]
        return [element for part in known for element in part] if len(known) == len(parts) else None
    x = node.inputs[0] if node.inputs else None
    if kind == op.Shape and x is not None and x.shape is not None:
        return [*x.shape][attribute(node, "start", 0) : attribute(node, "end", None)]
    if kind in _SAME_ELEMENTS:
        return elements_of(x, depth - 1)
    if kind == op.Gather and attribute(node, "axis", 0) == 0:
        return _picked(elements_of(x, depth - 1), constant(node.inputs[1]))
    if kind == op.Slice:
        return _sliced(node, elements_of(x, depth - 1))
    return None


def _picked(elements: list[Length] | None, indices: object) -> list[Length] | None:
    if elements is None or indices is None:
        return None
    positions = [int(k) for k in getattr(indices, "ravel", list)()]
    return [elements[k] for k in positions] if all(-len(elements) <= k < len(elements) for k in positions) else None


def _sliced(node: ir.Node, elements: list[Length] | None) -> list[Length] | None:
    """A Slice of one axis, whose bounds are attributes before opset 10."""
    bounds = []
    for index, name in ((1, "starts"), (2, "ends"), (4, "steps")):
        given = attribute(node, name, None)
        value = node.inputs[index] if index < len(node.inputs) else None
        if given is None and value is not None:
            given = constant(value)
            if given is None:
                return None
        bounds.append(None if given is None else [int(k) for k in given])
    starts, ends, steps = bounds
    if elements is None or starts is None or ends is None or len(starts) != 1:
        return None
    return elements[slice(starts[0], ends[0], steps[0] if steps else 1)]
