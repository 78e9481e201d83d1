"""Constants of a graph: which values never change, and how a new one is stored."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from bnfold.graph.scaled import Scaled, fits, largest

__all__ = [
    "attribute",
    "constant",
    "constant_shape",
    "float64_constant",
    "is_float",
    "is_only_use",
    "nonzero",
    "operand",
    "parameter",
    "round_constants",
    "store_constant",
    "tensor_of",
    "unrounded",
]

_FLOAT16_MAX = float(np.finfo(np.float16).max)
_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})


def is_float(value: ir.Value) -> bool:
    """Whether the value's elements are float64, float32, float16 or bfloat16."""
    return value.dtype in _FLOATS


def constant(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    """The array of a value that never changes, else None. A weight that is also a graph input may change."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def float64_constant(value: ir.Value | None) -> np.ndarray[Any, np.dtype[np.float64]] | None:
    """The same in float64; None for a constant of integers too."""
    if value is None or value.const_value is None or value.const_value.dtype not in _FLOATS:
        return None
    array = constant(value)
    return None if array is None else array.astype(np.float64, copy=not isinstance(value.const_value, Scaled))


def constant_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape of what `float64_constant` gives, without computing it."""
    if value is None or value.const_value is None or value.is_graph_input() or value.const_value.dtype not in _FLOATS:
        return None
    return tuple(value.const_value.shape.numpy())


def nonzero(value: ir.Value | None, part: tuple[slice | int, ...] = ()) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
    """Where the array that `float64_constant` gives, or a part of it, is not 0."""
    if constant_shape(value) is None or value is None or value.const_value is None:
        return None
    tensor = value.const_value
    return tensor.nonzero(part) if isinstance(tensor, Scaled) else tensor.numpy()[part] != 0


def is_only_use(graph: ir.Graph, value: ir.Value) -> bool:
    """Whether a value is an initializer of the graph that nothing reads but one input of one node."""
    held = graph.initializers.get(str(value.name)) is value
    return held and len(value.uses()) == 1 and not value.is_graph_output()


def operand(node: ir.Node, index: int = 0) -> ir.Value:
    """An input that a node must have.

    Raises:
        ValueError: it is absent.
    """
    value = node.inputs[index]
    if value is None:
        raise ValueError(f"{node.op_type} {node.name} has no input {index}")
    return value


def parameter(node: ir.Node, index: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A constant float input that a node must have, in float64.

    Raises:
        ValueError: it is absent or may change.
    """
    array = float64_constant(node.inputs[index])
    if array is None:
        raise ValueError(f"input {index} of {node.op_type} {node.name} is not a constant")
    return array


def tensor_of(node: ir.Node, index: int) -> ir.TensorProtocol:
    """The tensor of a constant float input that a node must have, not read yet.

    Raises:
        ValueError: it is absent or may change.
    """
    value = node.inputs[index]
    if value is None or constant_shape(value) is None or value.const_value is None:
        raise ValueError(f"input {index} of {node.op_type} {node.name} is not a constant")
    return value.const_value


def attribute(node: ir.Node, name: str, default: Any) -> Any:
    """The Python value of a node's attribute, or the operator's default."""
    attr = node.attributes.get(name)
    return default if attr is None else attr.value


def store_constant(
    graph: ir.Graph, name: str, array: np.ndarray[Any, Any] | Scaled, dtype: ir.DataType, *, rounded: bool = True
) -> ir.Value:
    """Register `array` as a new initializer of type `dtype`; a taken name gets a numbered suffix.

    With `rounded=False` the value keeps its float64 digits for further arithmetic, until `round_constants`.

    Raises:
        OverflowError: a finite element leaves the range of `dtype`.
    """
    unique, n = name, 1
    while unique in graph.initializers:
        n += 1
        unique = f"{name}_{n}"
    if rounded:
        tensor: ir.TensorProtocol = _rounded(unique, array, dtype)[0]
    elif isinstance(array, Scaled):
        tensor = array
        tensor.name = unique
    else:
        tensor = ir.Tensor(np.asarray(array, np.float64), name=unique)
    value = ir.Value(name=unique, type=ir.TensorType(dtype), shape=ir.Shape(array.shape), const_value=tensor)
    graph.register_initializer(value)
    return value


def unrounded(graph: ir.Graph) -> dict[ir.Value, ir.TensorProtocol]:
    """The initializers that still have float64 digits, with these; `round_constants` replaces the tensors."""
    held = ((value, value.const_value) for value in graph.initializers.values() if value.dtype is not None)
    return {v: tensor for v, tensor in held if tensor is not None and _has_more_digits(tensor, v.dtype)}


def _has_more_digits(tensor: ir.TensorProtocol, dtype: ir.DataType | None) -> bool:
    return tensor.dtype != dtype or isinstance(tensor, Scaled)


def round_constants(graph: ir.Graph) -> tuple[str, ...]:
    """Round every initializer that still has float64 digits to the type it is declared with, one after the other.

    Returns:
        The names of those that float16 could not hold.

    Raises:
        OverflowError: a finite element leaves the range of its own type.
    """
    beyond = []
    for name, value in graph.initializers.items():
        tensor, dtype = value.const_value, value.dtype
        if tensor is None or dtype is None or not _has_more_digits(tensor, dtype):
            continue
        value.const_value, magnitude = _rounded(name, tensor if isinstance(tensor, Scaled) else tensor.numpy(), dtype)
        if tensor.dtype != dtype and magnitude > _FLOAT16_MAX:
            beyond.append(name)
    return tuple(beyond)


def _rounded(
    name: str, array: np.ndarray[Any, Any] | Scaled, dtype: ir.DataType
) -> tuple[ir.Tensor[np.ndarray[Any, Any]], float]:
    """The tensor of the declared type, and the largest magnitude in it."""
    rounded = np.empty(tuple(array.shape), dtype.numpy())
    magnitude = 0.0
    with np.errstate(over="ignore"):  # an overflow is told below
        if isinstance(array, Scaled):
            for rows, block in array.blocks():
                rounded[rows] = block
                magnitude = max(magnitude, _magnitude(rounded[rows], block))
        else:
            rounded[...] = array
            magnitude = _magnitude(rounded, array)
    if not fits(magnitude, dtype):
        raise OverflowError(f"{name} leaves the range of {dtype.name}: largest magnitude {magnitude:.4g}")
    return ir.Tensor(rounded, dtype=dtype, name=name), magnitude


def _magnitude(rounded: np.ndarray[Any, Any], array: np.ndarray[Any, Any]) -> float:
    """The largest magnitude in an array, taken from its shorter form unless that overflowed."""
    magnitude = largest(rounded)
    return magnitude if math.isfinite(magnitude) else largest(array)
