"""What an operator's parameters, attributes and outputs say of its inputs: `ranks`, backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from bnfold.graph import operators as op
from bnfold.graph.constants import attribute
from bnfold.graph.elements import Length
from bnfold.graph.operators import kind_of
from bnfold.graph.ranks import (
    CONVOLUTIONS,
    POOLS,
    REDUCTIONS,
    SAME_RANK,
    SAME_SHAPE,
    Shapes,
    first_rank,
    list_length,
    named_rank,
    output_rank,
    rank_of,
    shape_of,
)

__all__ = ["inputs_by_operator"]

_BROADCAST = frozenset(
    {
        op.Add, op.And, op.Div, op.Equal, op.Greater, op.GreaterOrEqual, op.Less, op.LessOrEqual, op.Max, op.Mean,
        op.Min, op.Mod, op.Mul, op.Or, op.PRelu, op.Pow, op.Sub, op.Sum, op.Where, op.Xor,
    }
)  # fmt: skip


def inputs_by_operator(node: ir.Node) -> Shapes:
    """The shapes of the inputs of a node, as far as they follow from its operator, parameters and outputs."""
    kind, y = kind_of(node), output_rank(node)
    if kind in CONVOLUTIONS and (weight := shape_of(node, CONVOLUTIONS[kind])) is not None and len(weight) > 2:
        return {0: [None] * len(weight)}
    if kind in _BACKWARD:
        return _BACKWARD[kind](node)
    if kind in SAME_SHAPE and y is not None:
        return {0: list(node.outputs[0].shape or ())}
    if kind in POOLS | SAME_RANK:
        rank = y if y is not None else named_rank(node)
        return {} if rank is None else {0: [None] * rank}
    if kind in REDUCTIONS and y is not None:
        return _before_reduction(node, y)
    if kind == op.Concat:
        rank = y if y is not None else first_rank(node.inputs)
        return {} if rank is None else dict.fromkeys(range(len(node.inputs)), [None] * rank)
    if kind in _BROADCAST and y is not None:
        return _operand_of(node, y, [rank_of(node, k) for k in range(len(node.inputs))])
    return {}


def _before_transpose(node: ir.Node) -> Shapes:
    perm, y = attribute(node, "perm", None), node.outputs[0].shape
    if perm is None or y is None:
        rank = len(perm) if perm is not None else output_rank(node)
        return {} if rank is None else {0: [None] * rank}
    x: list[Length] = [None] * len(perm)
    for length, axis in zip(y, perm, strict=True):
        x[axis] = length
    return {0: x}


def _before_unsqueeze(node: ir.Node) -> Shapes:
    y, n_axes = output_rank(node), list_length(node, 1, "axes")
    return {} if y is None or n_axes is None else {0: [None] * (y - n_axes)}


def _before_squeeze(node: ir.Node) -> Shapes:
    y, n_axes = output_rank(node), list_length(node, 1, "axes")
    return {} if y is None or n_axes is None else {0: [None] * (y + n_axes)}


def _before_reduction(node: ir.Node, y: int) -> Shapes:
    if attribute(node, "keepdims", 1):
        return {0: [None] * y}
    n_axes = 1 if kind_of(node).startswith("Arg") else list_length(node, 1, "axes")
    return {} if not n_axes else {0: [None] * (y + n_axes)}


def _operand_of(node: ir.Node, y: int, ranks: Sequence[int | None]) -> Shapes:
    """The largest rank of the operands is that of the result: the one that is not known has it if no other does."""
    unknown = [
        k
        for k, (rank, value) in enumerate(zip(ranks, node.inputs[: len(ranks)], strict=True))
        if rank is None and value is not None
    ]
    reached = any(rank == y for rank in ranks)
    return {unknown[0]: [None] * y} if len(unknown) == 1 and not reached else {}


def _before_product(node: ir.Node) -> Shapes:
    y, ranks = output_rank(node), [rank_of(node, k) for k in range(2)]
    if y is None or y < 3:
        return {}
    return _operand_of(node, y, ranks) if len(node.inputs) == 2 or kind_of(node) == op.MatMulInteger else {}


_BACKWARD: dict[str, Callable[[ir.Node], Shapes]] = {
    **dict.fromkeys((op.LSTM, op.GRU, op.RNN), lambda node: {0: [None] * 3}),  # noqa: ARG005
    **dict.fromkeys((op.MatMul, op.MatMulInteger), _before_product),
    op.Gemm: lambda node: {0: [None, None]},  # noqa: ARG005
    op.Squeeze: _before_squeeze,
    op.Transpose: _before_transpose,
    op.Unsqueeze: _before_unsqueeze,
}
