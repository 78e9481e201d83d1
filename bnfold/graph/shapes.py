"""Shapes with symbolic axes, and how a Reshape regroups them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import onnx_ir as ir

from bnfold.graph.lengths import Dim, length_of

__all__ = ["Dim", "Group", "completed", "dims_of", "regroup", "static_length", "static_size"]

# Axes of the input and axes of the output that hold the same elements in the same order.
Group = tuple[tuple[int, ...], tuple[int, ...]]


def _dim(size: int | ir.SymbolicDim, owner: str) -> Dim:
    if isinstance(size, int):
        return size, ()
    return (1, (owner,)) if size.value is None else length_of(size.value)


def dims_of(value: ir.Value) -> tuple[Dim, ...] | None:
    """The lengths of a value's axes, None if its rank is unknown. An unnamed length is a symbol of this axis alone."""
    if value.shape is None:
        return None
    return tuple(_dim(size, f"?{value.name}.{axis}") for axis, size in enumerate(value.shape))


def _product(dims: Sequence[Dim]) -> Dim:
    return math.prod(d[0] for d in dims), tuple(sorted(symbol for d in dims for symbol in d[1]))


def _smaller(a: Dim, b: Dim) -> bool:
    """Whether `a` has yet to grow to reach `b`: fewer symbols, then the smaller factor."""
    return (len(a[1]), a[0]) < (len(b[1]), b[0])


def regroup(before: Sequence[Dim], after: Sequence[Dim]) -> list[Group] | None:
    """Pair the axes of a Reshape's input and output into the smallest groups of equal length, left to right.

    (N, C, 4, 4) -> (N, 16 C) gives [((0,), (0,)), ((1, 2, 3), (1,))]. None if the lengths cannot be matched.
    """
    groups: list[Group] = []
    i = j = 0
    while i < len(before) or j < len(after):
        start_i, start_j = i, j
        i, j = min(i + 1, len(before)), min(j + 1, len(after))
        while (left := _product(before[start_i:i])) != (right := _product(after[start_j:j])):
            if i < len(before) and (_smaller(left, right) or j == len(after)):
                i += 1
            elif j < len(after):
                j += 1
            else:
                return None
        groups.append((tuple(range(start_i, i)), tuple(range(start_j, j))))
    return groups


def completed(before: Sequence[Dim], after: Sequence[Dim]) -> tuple[Dim, ...]:
    """`after`, its one unknown length, if there is just one, computed from the number of elements of `before`."""
    names = _names(before)
    unknown = [k for k, (_, symbols) in enumerate(after) if not names.issuperset(symbols)]
    if len(unknown) != 1 or after[unknown[0]][0] != 1:
        return tuple(after)
    (k,) = unknown
    (total, symbols), (rest, taken) = _product(before), _product([*after[:k], *after[k + 1 :]])
    left = Counter(symbols)
    left.subtract(taken)
    if rest == 0 or total % rest or min(left.values(), default=0) < 0:
        return tuple(after)
    return (*after[:k], (total // rest, tuple(sorted(left.elements()))), *after[k + 1 :])


def _names(dims: Sequence[Dim]) -> set[str]:
    return {symbol for _, symbols in dims for symbol in symbols}


def static_length(value: ir.Value, axis: int) -> int | None:
    """The length of an axis, None where it is not a known number."""
    dims = dims_of(value)
    if dims is None or not -len(dims) <= axis < len(dims):
        return None
    factor, symbols = dims[axis]
    return None if symbols else factor


def static_size(value: ir.Value) -> int:
    """The number of elements with every symbolic length taken as 1 (batch 1)."""
    dims = dims_of(value)
    return 1 if dims is None else math.prod(factor for factor, _ in dims)
