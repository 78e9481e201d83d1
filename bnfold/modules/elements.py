"""Which element of which parameter every stored constant of an exported graph is.

Exporters write a parameter transposed, cut into gates and put together again. What only moves elements is followed
here, on numbers of elements in their place; what computes with them (a weight that is normalised) freezes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bnfold.graph import operators as op
from bnfold.graph.canonical import canonicalise
from bnfold.graph.constants import attribute, constant
from bnfold.graph.operators import kind_of

__all__ = ["NOTHING", "Elements", "elements_of"]

Numbers = NDArray[np.int64]
NOTHING = -1
"""The number of an element that is no parameter's."""


@dataclass
class Elements:
    """Numbers of elements: each parameter's are consecutive, in its own order.

    Attributes:
        starts: the first number of each parameter, by name, ascending.
        shapes: of the parameters.
        of: the numbers of each value that only holds elements of parameters, by the value's name.
        read: the numbers of what each operator reads, by the name of its first output and the position: where only
            the type is changed on the way, names differ from graph to graph.
        frozen: whether a computation on parameters alone reads an element, by number: it must stay.
    """

    starts: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    of: dict[str, Numbers] = field(default_factory=dict)
    read: dict[tuple[str, int], Numbers] = field(default_factory=dict)
    frozen: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))

    def parameters(self, numbers: Numbers) -> list[tuple[str, NDArray[np.bool_]]]:
        """The parameters that these elements are of, each with the mask of its elements."""
        names, starts = list(self.starts), np.array(list(self.starts.values()))
        which = np.where(numbers == NOTHING, NOTHING, np.searchsorted(starts, numbers, side="right") - 1)
        return [(names[k], which == k) for k in np.unique(which) if k != NOTHING]


def elements_of(model: ir.Model, names: Iterable[str]) -> Elements:
    """Follow the parameters of a graph.

    Args:
        model: as exported, nothing computed yet; unchanged.
        names: the initializers that are parameters or buffers of floating point.
    """
    probe = model.clone()
    found, n = Elements(), 0
    for name in names:
        value = probe.graph.initializers.pop(name)
        tensor = value.const_value
        shape = tuple(int(size) for size in tensor.shape.numpy()) if tensor is not None else ()
        value.const_value = None
        probe.graph.inputs.append(value)
        size = int(np.prod(shape))
        found.starts[name], found.shapes[name] = n, shape
        found.of[name] = np.arange(n, n + size, dtype=np.int64).reshape(shape)
        n += size
    found.frozen = np.zeros(n, bool)
    canonicalise(probe)
    _follow(probe.graph, found)
    return found


def _follow(graph: ir.Graph, found: Elements) -> None:
    """Walk the operators whose inputs are all constant or made of parameters."""
    known = {value for value in (*graph.inputs, *graph.initializers.values()) if value.name in found.of}
    known |= set(graph.initializers.values())
    for node in graph:
        for index, value in enumerate(node.inputs):
            if value is not None and value.name in found.of:
                found.read[str(node.outputs[0].name), index] = found.of[str(value.name)]
        read = node.inputs[:1] if kind_of(node) == op.CastLike else node.inputs  # the second one gives its type only
        if not read or not all(value is None or value in known for value in read):
            continue
        known.update(node.outputs)
        move = _MOVES.get(kind_of(node))
        moved = None if move is None else move(node, found.of)
        if moved is None:
            for value in node.inputs:
                if value is not None and value.name in found.of:
                    numbers = found.of[str(value.name)]
                    found.frozen[numbers[numbers != NOTHING]] = True
            continue
        for output, numbers in zip(node.outputs, moved, strict=True):
            found.of[str(output.name)] = numbers


Moved = list[Numbers] | None
Known = Mapping[str, Numbers]


def _data(node: ir.Node, known: Known) -> Numbers | None:
    value = node.inputs[0]
    return None if value is None else known.get(str(value.name))


def _constants(node: ir.Node) -> list[list[int] | None]:
    """The integers at the inputs behind the first; None for an absent one."""
    arrays = [constant(value) for value in node.inputs[1:]]
    return [None if array is None else [int(n) for n in np.atleast_1d(array)] for array in arrays]


def _moving(function: Callable[[ir.Node, Numbers], Numbers | None]) -> Callable[[ir.Node, Known], Moved]:
    """An operator of one data input and one output."""

    def moved(node: ir.Node, known: Known) -> Moved:
        data = _data(node, known)
        result = None if data is None else function(node, data)
        return None if result is None else [result]

    return moved


def _transposed(node: ir.Node, data: Numbers) -> Numbers:
    return data.transpose(attribute(node, "perm", None))


def _reshaped(node: ir.Node, data: Numbers) -> Numbers | None:
    (shape,) = _constants(node)
    if shape is None:
        return None
    return data.reshape([data.shape[k] if size == 0 else size for k, size in enumerate(shape)])


def _flattened(node: ir.Node, data: Numbers) -> Numbers:
    axis = attribute(node, "axis", 1) % (data.ndim + 1)
    return data.reshape(int(np.prod(data.shape[:axis])), -1)


def _squeezed(node: ir.Node, data: Numbers) -> Numbers:
    axes = next(iter(_constants(node)), None)
    return data.squeeze(None if axes is None else tuple(axes))


def _unsqueezed(node: ir.Node, data: Numbers) -> Numbers | None:
    axes = next(iter(_constants(node)), None)
    return None if axes is None else np.expand_dims(data, tuple(axes))


def _sliced(node: ir.Node, data: Numbers) -> Numbers | None:
    starts, ends, axes, steps = [*_constants(node), None, None][:4]
    if starts is None or ends is None:
        return None
    for k, axis in enumerate(axes or range(len(starts))):
        step = 1 if steps is None else steps[k]
        if step < 1:
            return None
        part: list[Any] = [slice(None)] * data.ndim
        part[axis % data.ndim] = slice(starts[k], ends[k], step)
        data = data[tuple(part)]
    return data


def _cast(node: ir.Node, data: Numbers) -> Numbers | None:
    value = node.inputs[0]
    return data if value is not None and node.outputs[0].dtype in (None, value.dtype) else None


def _gathered(node: ir.Node, data: Numbers) -> Numbers | None:
    indices = constant(node.inputs[1])
    return None if indices is None else data.take(indices, axis=attribute(node, "axis", 0))


def _concatenated(node: ir.Node, known: Known) -> Moved:
    parts = []
    for value in node.inputs:
        numbers = None if value is None else known.get(str(value.name))
        if numbers is None:
            array = constant(value)
            if array is None:
                return None
            numbers = np.full(array.shape, NOTHING, np.int64)
        parts.append(numbers)
    return [np.concatenate(parts, axis=attribute(node, "axis", 0))]


def _split(node: ir.Node, known: Known) -> Moved:
    data = _data(node, known)
    if data is None:
        return None
    axis, sizes = attribute(node, "axis", 0), next(iter(_constants(node)), None)
    if sizes is None:
        length = -(-data.shape[axis] // len(node.outputs))
        return np.split(data, range(length, data.shape[axis], length), axis=axis)
    return np.split(data, np.cumsum(sizes)[:-1], axis=axis)


_MOVES: dict[str, Callable[[ir.Node, Known], Moved]] = {
    op.Cast: _moving(_cast),
    op.CastLike: _moving(_cast),
    op.Concat: _concatenated,
    op.Flatten: _moving(_flattened),
    op.Gather: _moving(_gathered),
    op.Identity: _moving(lambda _, data: data),
    op.Reshape: _moving(_reshaped),
    op.Slice: _moving(_sliced),
    op.Split: _split,
    op.Squeeze: _moving(_squeezed),
    op.Transpose: _moving(_transposed),
    op.Unsqueeze: _moving(_unsqueezed),
}
