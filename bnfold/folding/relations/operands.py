"""Operands: which one is constant and along which axis it varies, and optional lists of integers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bnfold.graph.constants import attribute, constant, float64_constant
from bnfold.numerics.affine import Float64

__all__ = ["channel_axis", "constant_operand", "has_input", "input_of", "integers", "per_channel", "slim"]


def constant_operand(node: ir.Node) -> tuple[ir.Value, Float64, int] | None:
    """The data operand, the constant one, and the index of the constant; None unless there is one of each."""
    constants = [float64_constant(value) for value in node.inputs]
    known = [k for k, array in enumerate(constants) if array is not None]
    if len(node.inputs) != 2 or len(known) != 1:
        return None
    data, array = node.inputs[1 - known[0]], constants[known[0]]
    return None if data is None or array is None else (data, array, known[0])


def channel_axis(array: Float64, varying: tuple[int, ...]) -> int | None:
    """The one axis along which the constant or the data's units (length > 1 in `varying`) vary; the last if none do."""
    rank = len(varying)
    shape = (1,) * (rank - array.ndim) + array.shape
    long = [axis for axis in range(rank) if max(shape[axis], varying[axis]) > 1]
    return long[0] if len(long) == 1 else (rank - 1 if not long else None)


def per_channel(array: Float64, rank: int, channels: int) -> Float64 | None:
    """A constant beside data of this rank as (C,), the channels being axis 1; None where it varies along another."""
    axis = channel_axis(array, (1,) * rank) if array.ndim <= rank else None
    if axis is None or (axis != 1 and array.size > 1) or array.size not in (1, channels):
        return None
    return np.broadcast_to(array.reshape(-1), (channels,))


def slim(array: Float64, rank: int) -> Float64:
    """Drop leading axes of length 1 beyond `rank`: runtimes match a constant of shape (C, 1, 1), not (1, C, 1, 1)."""
    while array.ndim > rank and array.shape[0] == 1:
        array = array[0]
    return array


def input_of(node: ir.Node, index: int) -> ir.Value | None:
    """An input that a node may leave out."""
    return node.inputs[index] if len(node.inputs) > index else None


def integers(node: ir.Node, index: int, name: str) -> list[int] | None:
    """A list of integers that older opsets hold as an attribute and newer ones as a constant input."""
    held = attribute(node, name, None)
    if held is not None:
        return [int(i) for i in held]
    array = constant(input_of(node, index))
    return None if array is None else [int(i) for i in array.ravel()]


def has_input(node: ir.Node, index: int, name: str) -> bool:
    """Whether an optional list of integers is there at all."""
    return name in node.attributes or input_of(node, index) is not None
