"""What linear operators cost: the products that one output element adds up, and the multiply-adds of a node."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from onnx import NodeProto

__all__ = ["CONV", "CONV_TRANSPOSE", "GEMM", "MATMUL", "RECURRENT", "Cost"]

Flags = Mapping[str, int]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Cost:
    """Two counts.

    Attributes:
        sums: (integer attributes, position of the stored operand, its shape) to the products that one output element
            adds up; 0 where no operand at that position is multiplied.
        macs: (node, shapes by name) to the multiply-adds of the node; None where they are not counted.
    """

    sums: Callable[[Flags, int, Sequence[int]], int]
    macs: Callable[[NodeProto, Shapes], int] | None = None


def _conv_sums(_flags: Flags, position: int, shape: Sequence[int]) -> int:
    """W (M, C / group, kernel): C / group times the kernel."""
    return math.prod(shape[1:]) if position == 1 else 0


def _conv_transpose_sums(flags: Flags, position: int, shape: Sequence[int]) -> int:
    """W (C, M / group, kernel): C / group times the kernel."""
    return shape[0] // max(flags.get("group", 1), 1) * math.prod(shape[2:]) if position == 1 else 0


def _gemm_sums(flags: Flags, position: int, shape: Sequence[int]) -> int:
    """A (M, K) or B (K, N), either transposed: K."""
    transposed = bool(flags.get("transB" if position else "transA", 0))
    return shape[int(transposed)] if position else shape[1 - int(transposed)]


def _matmul_sums(_flags: Flags, position: int, shape: Sequence[int]) -> int:
    """A (..., M, K) or B (..., K, N): K."""
    return shape[-2] if position and len(shape) > 1 else shape[-1]


def _columns(_flags: Flags, _position: int, shape: Sequence[int]) -> int:
    """W (directions, gates H, I): I."""
    return shape[-1]


def _conv_macs(node: NodeProto, shapes: Shapes) -> int:
    """Every output element sums over the weight's (C_in / group, kernel)."""
    return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])


def _conv_transpose_macs(node: NodeProto, shapes: Shapes) -> int:
    """Every input element goes into the weight's (C_out / group, kernel)."""
    return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])


def _gemm_macs(node: NodeProto, shapes: Shapes) -> int:
    """Every output element sums over the columns of A, or its rows where it is transposed."""
    trans_a = next((attribute.i for attribute in node.attribute if attribute.name == "transA"), 0)
    return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if trans_a else 1]


def _matmul_macs(node: NodeProto, shapes: Shapes) -> int:
    """Every output element sums over the last axis of A."""
    return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]


CONV = Cost(_conv_sums, _conv_macs)
CONV_TRANSPOSE = Cost(_conv_transpose_sums, _conv_transpose_macs)
GEMM = Cost(_gemm_sums, _gemm_macs)
MATMUL = Cost(_matmul_sums, _matmul_macs)
RECURRENT = Cost(_columns)
