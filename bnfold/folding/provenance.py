"""Which values of the source the values of the folded graph stand for, kept up to date while the graph changes.

    v'' = a_1 (v' + d_1),  v' = a_0 (v + d_0)   ->   v'' = a_1 a_0 (v + d_0 + d_1 / a_0)

Nothing here is trusted: `bnfold.verification.certificate` proves each statement, or the file fails.

What a value stands for is kept at the value (`ir.Value.meta`), and written and read in this module alone. A table
beside the graph would have to follow every value that a stage or a pass of onnx_ir adds, replaces or clones, through
the five stages that change the graph, and would hold on to those that are gone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import cast

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bnfold.folding.gauge import Gauge
from bnfold.graph import operators as op
from bnfold.graph.operators import kind_of
from bnfold.numerics.affine import Float64
from bnfold.records.certificate import Certificate, Counterpart, Exact

__all__ = [
    "Digits",
    "begin",
    "certify",
    "change_units",
    "forget",
    "forget_without_bias",
    "remove",
    "stand_for",
    "take_over",
    "unlink",
]

_KEY = "bnfold.counterparts"

Digits = dict[ir.Value, ir.TensorProtocol]  # of parameters before they are rounded


def begin(model: ir.Model) -> None:
    """Every value stands for the one of its name."""
    for _, graph in _named_graphs(model.graph, ""):
        for value in _values(graph):
            _set(value, (Counterpart(value.name),) if value.name else ())


def take_over(new: ir.Value, *old: ir.Value) -> None:
    """`new` stands for what these values stood for, and for nothing else."""
    _set(new, tuple(counterpart for value in old for counterpart in _of(value)))


def forget(value: ir.Value) -> None:
    """A value that stands for nothing in the source."""
    _set(value, ())


def stand_for(value: ir.Value, vanished: ir.Value) -> None:
    """A value stands for one that has vanished into it, too."""
    take_over(value, value, vanished)


def change_units(gauge: Gauge) -> None:
    """Give every value the units that are chosen for it; those of a channel of scale 0 say nothing of the source."""
    for value, ids in gauge.units.ids.items():
        if _of(value) and not gauge.trivial(value):
            says_nothing = (gauge.scale[ids] == 0) | (gauge.inverse[ids] == 0)
            scale = np.where(says_nothing, np.nan, gauge.scale[ids])
            changed = (_rescaled(counterpart, scale, gauge.offset[ids]) for counterpart in _of(value))
            _set(value, tuple(changed))


def forget_without_bias(node: ir.Node, gauge: Gauge) -> None:
    """A MatMul whose reader adds what it lacks of the output's units writes a part of its counterpart only."""
    x, y = node.inputs[0], node.outputs[0]
    if kind_of(node) != op.MatMul or x is None:
        return
    if gauge.constant[gauge.elements(y)].any() or gauge.offset[gauge.elements(x)].any():
        forget(y)


def unlink(value: ir.Value, channels: NDArray[np.bool_]) -> None:
    """The elements of these channels (broadcast to the value) say nothing of the source any more."""
    if channels.any():
        nothing = np.where(channels, np.nan, 1.0)
        _set(value, tuple(_rescaled(counterpart, nothing, np.zeros(())) for counterpart in _of(value)))


def remove(value: ir.Value, channels: NDArray[np.bool_]) -> None:
    """The channels of this mask, of the value's rank and with length 1 on all other axes, leave."""
    if channels.any():
        left = {axis: _left(channels, axis) for axis, length in enumerate(channels.shape) if length > 1}
        _set(value, tuple(_shrunk(counterpart, left) for counterpart in _of(value)))


def certify(model: ir.Model, digits: Digits) -> Certificate:
    """What the folded model says of itself.

    Args:
        model: folded; every value has the name that it will be written with.
        digits: of the parameters that were rounded.
    """
    values, parameters = {}, {}
    for place, graph in _named_graphs(model.graph, ""):
        known = ((value.name, _of(value)) for value in _values(graph))
        values[place] = {str(name): counterparts for name, counterparts in known if counterparts}
        parameters[place] = {
            name: _exact(digits[value]) for name, value in graph.initializers.items() if value in digits
        }
    return Certificate(values, parameters)


def _exact(tensor: ir.TensorProtocol) -> Exact:
    return lambda _: cast("Float64", tensor.numpy())


def _of(value: ir.Value) -> tuple[Counterpart, ...]:
    return cast("tuple[Counterpart, ...]", value.meta.get(_KEY, ()))


def _set(value: ir.Value, counterparts: tuple[Counterpart, ...]) -> None:
    value.meta[_KEY] = counterparts


def _rescaled(counterpart: Counterpart, scale: Float64, offset: Float64) -> Counterpart:
    before = np.ones(()) if counterpart.scale is None else counterpart.scale
    with np.errstate(invalid="ignore"):
        new_scale = np.asarray(scale * before)
        shift = np.asarray((0.0 if counterpart.offset is None else counterpart.offset) + offset / before)
    shift = np.where(np.isnan(shift), 0.0, shift)
    return dataclasses.replace(
        counterpart,
        scale=None if (new_scale == 1).all() else new_scale,
        offset=shift if shift.any() else None,
    )


def _left(channels: NDArray[np.bool_], axis: int) -> NDArray[np.int64]:
    """The positions of an axis of which something stays."""
    others = tuple(k for k in range(channels.ndim) if k != axis)
    return np.flatnonzero(~channels.all(axis=others))


def _shrunk(counterpart: Counterpart, left: dict[int, NDArray[np.int64]]) -> Counterpart:
    kept, scale, offset = dict(counterpart.kept), counterpart.scale, counterpart.offset
    for axis, positions in left.items():
        kept[axis] = kept[axis][positions] if axis in kept else positions
        scale, offset = (_taken(array, axis, positions) for array in (scale, offset))
    return dataclasses.replace(counterpart, scale=scale, offset=offset, kept=kept)


def _taken(array: Float64 | None, axis: int, positions: NDArray[np.int64]) -> Float64 | None:
    return (
        array.take(positions, axis=axis) if array is not None and array.ndim > axis and array.shape[axis] > 1 else array
    )


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    for node in graph:
        yield from node.outputs


def _named_graphs(graph: ir.Graph, place: str) -> Iterator[tuple[str, ir.Graph]]:
    """A graph and those inside it, each with its place as in `Certificate`."""
    yield place, graph
    for node in graph:
        for attr in node.attributes.values():
            if attr.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS):
                inner = [attr.as_graph()] if attr.type == ir.AttributeType.GRAPH else list(attr.as_graphs())
                for k, body in enumerate(inner):
                    name = f"{node.outputs[0].name}.{attr.name}{k if attr.type == ir.AttributeType.GRAPHS else ''}"
                    yield from _named_graphs(body, f"{place}/{name}" if place else name)
