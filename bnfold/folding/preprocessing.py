"""Preprocessing of pixels goes into the first convolutions, exactly, also at a border that is padded with zeros.

    conv(pad(s x + t))_m  =  conv(pad(x))_m with W s  +  sum_c t_c sum_k W_mck 1[tap k lies inside the image]

The second sum is a convolution of ones, padded alike: one more channel of ones, whose weights are `sum_c W_mck t_c`,
tap by tap. So it is exact at the border for every height and width. Where nothing is padded all taps lie inside, and a
bias takes it. An order of channels, `y_c = s_c x_o(c) + t_c`, reorders the weights. A grouped convolution has a channel
of ones in each group. ONNX: Conv, Pad, Cast, Transpose, Gather.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from bnfold.graph import operators as op
from bnfold.graph.constants import attribute, constant, float64_constant, is_float, store_constant
from bnfold.graph.layers import layer_name
from bnfold.graph.operators import kind_of
from bnfold.records.input_format import PreprocessingFold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["fold_preprocessing"]

_CHANNEL = 1
_RANK = 4
_PAD_BY_INPUT = 11  # the opset from which Pad reads its lengths from an input, and
_PAD_OF_BYTES = 13  # the one from which it takes bytes
_AFFINE = (op.Add, op.Sub, op.Mul, op.Div)


@dataclasses.dataclass(frozen=True)
class _Map:
    """What convolutions read of the pixels: `y_c = scale_c x_order(c) + offset_c`, axes moved, of floating point."""

    axes: tuple[int, ...]
    dtype: ir.DataType
    order: NDArray[np.int64]
    scale: NDArray[np.float64]
    offset: NDArray[np.float64]


def fold_preprocessing(model: ir.Model, name: str) -> PreprocessingFold:
    """Fold what stands between an input and the convolutions that read it into these, in place.

    Args:
        model: whose input is pixels, as `bnfold.graph.preprocessing_nodes` writes it.
        name: of the input.

    Returns:
        The layers that took it, or why the nodes stay.
    """
    graph = model.graph
    pixels = next(value for value in graph.inputs if value.name == name)
    nodes, end = _chain(pixels)
    convs = list(dict.fromkeys(node for node, _ in end.uses()))
    found = _map(pixels, nodes, end)
    reason = _obstacle(found, end, convs, model.opset_imports.get("", 0))
    if reason is not None or found is None:
        return PreprocessingFold("explicit", reason=reason)
    writer = _Writer(graph, pixels, found, convs, model.opset_imports.get("", 0))
    for node in convs:
        writer.take(node)
    passes.RemoveUnusedNodesPass()(model)
    return PreprocessingFold("folded", into=tuple(layer_name(node) for node in convs))


def _chain(pixels: ir.Value) -> tuple[list[ir.Node], ir.Value]:
    """The nodes that move and map an input, as long as one reads it, and the value behind them."""
    nodes, value = [], pixels
    while not value.is_graph_output() and len(value.uses()) == 1:
        ((node, index),) = value.uses()
        if index != 0 or kind_of(node) not in (op.Transpose, op.Cast, op.Gather, *_AFFINE):
            break
        if kind_of(node) in _AFFINE and float64_constant(node.inputs[1]) is None:
            break
        nodes.append(node)
        value = node.outputs[0]
    return nodes, value


def _map(pixels: ir.Value, nodes: Sequence[ir.Node], end: ir.Value) -> _Map | None:
    """What the nodes compute, followed back from the channels that are read; None where it is no such map."""
    n = end.shape[_CHANNEL] if end.shape is not None and len(end.shape) == _RANK else None
    if not isinstance(n, int) or end.dtype is None or not is_float(end):
        return None
    axes, channel = tuple(range(_RANK)), _CHANNEL
    order, scale, offset = np.arange(n), np.ones(n), np.zeros(n)
    for node in reversed(nodes):
        kind = kind_of(node)
        if kind == op.Transpose:
            moved = tuple(attribute(node, "perm", tuple(reversed(range(_RANK)))))
            axes, channel = tuple(moved[axis] for axis in axes), moved[channel]
        elif kind == op.Gather:
            picked = constant(node.inputs[1])
            if picked is None or sorted(picked.tolist()) != list(range(n)) or attribute(node, "axis", 0) != channel:
                return None
            order = picked[order]
        elif kind == op.Cast:
            if not is_float(node.outputs[0]) or (is_float(node.inputs[0] or pixels) and node.inputs[0] is not pixels):
                return None
        else:
            numbers = _by_channel(node, channel, n)
            if numbers is None:
                return None
            factor = 1.0 if kind in (op.Add, op.Sub) else numbers[order] if kind == op.Mul else 1 / numbers[order]
            offset = offset + scale * numbers[order] * {op.Add: 1.0, op.Sub: -1.0}.get(kind, 0.0)
            scale = scale * factor
    return _Map(axes, end.dtype, order, scale, offset)


def _by_channel(node: ir.Node, channel: int, n: int) -> NDArray[np.float64] | None:
    """The constant of a node, one number for each channel; None where it varies along another axis."""
    numbers = float64_constant(node.inputs[1])
    if numbers is None or numbers.ndim > _RANK:
        return None
    shape = (1,) * (_RANK - numbers.ndim) + numbers.shape
    if any(size != 1 for axis, size in enumerate(shape) if axis != channel):
        return None
    return np.broadcast_to(numbers.reshape(-1), (n,))


def _obstacle(found: _Map | None, end: ir.Value, convs: Sequence[ir.Node], opset: int) -> str | None:
    """Why the nodes must stay, None where all that reads them can take their work."""
    if found is None:
        return "it is no map of single channels"
    if end.is_graph_output() or not convs:
        return "the preprocessed input is an output, or is not read"
    for node in convs:
        name = layer_name(node)
        if kind_of(node) != op.Conv or [value is end for value in node.inputs].index(True) != 0:
            return f"{node.op_type} `{name}` reads the preprocessed input, and is no convolution of it"
        weight = float64_constant(node.inputs[1])
        if weight is None or (len(node.inputs) > 2 and node.inputs[2] is not None and constant(node.inputs[2]) is None):
            return f"the parameters of `{name}` are computed"
        if weight.shape[1] * attribute(node, "group", 1) != len(found.order):
            return f"`{name}` reads another number of channels"
    if opset < _PAD_BY_INPUT:
        return f"Pad of opset {opset} adds no channel"
    return None


def _pads(node: ir.Node) -> bool:
    return any(attribute(node, "pads", ())) or attribute(node, "auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER")


class _Writer:
    """Writes the pixels as the convolutions read them, and their parameters.

    Args:
        graph: to write into.
        pixels: its input.
        found: what the convolutions read of it.
        convs: all that do.
        opset: of the graph.
    """

    def __init__(self, graph: ir.Graph, pixels: ir.Value, found: _Map, convs: Sequence[ir.Node], opset: int) -> None:
        self._graph, self._pixels, self._map, self._opset = graph, pixels, found, opset
        self._ones = bool(found.offset.any()) and any(map(_pads, convs))
        self._first = min(convs, key=list(graph).index)
        self._sources: dict[tuple[int, ...] | None, ir.Value] = {}
        self._stem = pixels
        if found.axes != tuple(range(_RANK)):
            self._stem = self._then(pixels, "moved", op.Transpose, perm=list(found.axes))
        if self._ones:
            if opset < _PAD_OF_BYTES:
                self._stem = self._as_floats(self._stem)
            pads = store_constant(graph, f"{pixels.name}.pads", np.array([0, 0, 0, 0, 0, 1, 0, 0]), ir.DataType.INT64)
            one = store_constant(graph, f"{pixels.name}.one", np.ones(()), self._stem.dtype or found.dtype)
            self._stem = self._then(self._stem, "with_ones", op.Pad, pads, one)

    def take(self, node: ir.Node) -> None:
        """Let a convolution read the pixels: `W'_m = (W_mc s_c by x's channel, sum_c W_mc t_c)`."""
        stored, groups = node.inputs[1], attribute(node, "group", 1)
        weight = float64_constant(stored)
        if weight is None or stored is None or stored.dtype is None:
            raise ValueError(f"Conv {node.name} has no constant weights")
        m, found = len(weight), self._map
        size = len(found.order) // groups
        of_group = np.arange(m) // (m // groups)  # the group of each output channel
        channels = of_group[:, None] * size + np.arange(size)
        by_input = (m, size, *(1,) * (weight.ndim - 2))
        new = weight * found.scale[channels].reshape(by_input)
        shift = (weight * found.offset[channels].reshape(by_input)).sum(axis=1, keepdims=True)
        if groups == 1:
            new[:, found.order] = new.copy()
        if self._ones:
            new = np.concatenate([new, shift], axis=1)
        elif found.offset.any():
            bias = float64_constant(node.inputs[2]) if len(node.inputs) > 2 else None
            total = shift.reshape(m, -1).sum(axis=1) + (0.0 if bias is None else bias)
            node.resize_inputs(3)
            name = f"{layer_name(node)}.bias"
            node.replace_input_with(2, store_constant(self._graph, name, total, stored.dtype, rounded=False))
        node.replace_input_with(1, store_constant(self._graph, str(stored.name), new, stored.dtype, rounded=False))
        node.replace_input_with(0, self._source(groups))

    def _source(self, groups: int) -> ir.Value:
        """The channels that a convolution of so many groups reads, in floating point."""
        n = len(self._map.order)
        picked = None
        if groups > 1 and (self._ones or (self._map.order != np.arange(n)).any()):
            parts = self._map.order.reshape(groups, -1)
            ones = np.full((groups, int(self._ones)), n)
            picked = tuple(np.concatenate([parts, ones], axis=1).reshape(-1).tolist())
        if picked not in self._sources:
            value = self._stem
            if picked is not None:
                indices = store_constant(
                    self._graph, f"{self._pixels.name}.channels", np.array(picked), ir.DataType.INT64
                )
                value = self._then(value, f"of_{groups}_groups", op.Gather, indices, axis=_CHANNEL)
            self._sources[picked] = self._as_floats(value)
        return self._sources[picked]

    def _as_floats(self, value: ir.Value) -> ir.Value:
        if value.dtype == self._map.dtype:
            return value
        out = self._then(value, f"{value.name}.floats", op.Cast, to=int(self._map.dtype))
        out.type = ir.TensorType(self._map.dtype)
        return out

    def _then(
        self, value: ir.Value, name: str, op_type: str, *others: ir.Value, **attributes: int | list[int]
    ) -> ir.Value:
        """One more node in front of all that read it, with the shape that inference would find."""
        prefix = f"{self._pixels.name}."
        name = name if name.startswith(prefix) else prefix + name
        node = ir.node(op_type, [value, *others], attributes=attributes, name=name)
        out = node.outputs[0]
        out.name, out.type, out.shape = name, ir.TensorType(value.dtype or self._map.dtype), value.shape
        sizes: list[Any] = list(value.shape.dims) if value.shape is not None else [None] * _RANK
        if op_type == op.Transpose:
            sizes = [sizes[axis] for axis in self._map.axes]
        elif op_type == op.Pad:
            sizes[_CHANNEL] = len(self._map.order) + 1
        elif op_type == op.Gather:
            sizes[_CHANNEL] = others[0].const_value.shape[0] if others[0].const_value is not None else None
        out.shape = ir.Shape(sizes)
        self._graph.insert_before(self._first, node)
        return out
