"""What convolutions read in place of preprocessed pixels, and their parameters; see `bnfold.folding.preprocessing`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from bnfold.graph import operators as op
from bnfold.graph.constants import attribute, float64_constant, store_constant
from bnfold.graph.layers import layer_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["CHANNEL", "RANK", "PixelMap", "PixelWriter", "Reader", "needs_ones"]

CHANNEL = 1
RANK = 4
_PAD_OF_BYTES = 13  # the opset from which Pad takes bytes


@dataclasses.dataclass(frozen=True)
class Reader:
    """A node that reads the preprocessed input, through a Pad of zeros over space or itself."""

    node: ir.Node
    pad: ir.Node | None = None


@dataclasses.dataclass(frozen=True)
class PixelMap:
    """What convolutions read of the pixels: `y_c = scale_c x_order(c) + offset_c`, axes moved, of floating point."""

    axes: tuple[int, ...]
    dtype: ir.DataType
    order: NDArray[np.int64]
    scale: NDArray[np.float64]
    offset: NDArray[np.float64]


def needs_ones(found: PixelMap, readers: Sequence[Reader]) -> bool:
    """Whether there is a mean that a bias would get wrong at a border."""
    return bool(found.offset.any()) and any(map(_has_border, readers))


def _has_border(reader: Reader) -> bool:
    node = reader.node
    return (
        reader.pad is not None
        or any(attribute(node, "pads", ()))
        or attribute(node, "auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER")
    )


class PixelWriter:
    """Writes the pixels as the convolutions read them, and their parameters.

    Args:
        graph: to write into.
        pixels: its input.
        found: what the convolutions read of it.
        readers: all that do.
        opset: of the graph.
        ones: whether a channel of ones takes the mean where zeros are padded; else a node in front subtracts it.
    """

    def __init__(
        self, graph: ir.Graph, pixels: ir.Value, found: PixelMap, readers: Sequence[Reader], opset: int, *, ones: bool
    ) -> None:
        self._graph, self._pixels, self._map = graph, pixels, found
        needed = needs_ones(found, readers)
        self._ones, self.subtracts = needed and ones, needed and not ones
        self._first = min((reader.pad or reader.node for reader in readers), key=list(graph).index)
        self._sources: dict[tuple[int, ...] | None, ir.Value] = {}
        self._stem = pixels
        if found.axes != tuple(range(RANK)):
            self._stem = self._then(pixels, "moved", op.Transpose, perm=list(found.axes))
        if self._ones:
            if opset < _PAD_OF_BYTES:
                self._stem = self._as_floats(self._stem)
            pads = store_constant(graph, f"{pixels.name}.pads", np.array([0, 0, 0, 0, 0, 1, 0, 0]), ir.DataType.INT64)
            one = store_constant(graph, f"{pixels.name}.one", np.ones(()), self._stem.dtype or found.dtype)
            self._stem = self._then(self._stem, "with_ones", op.Pad, pads, one)
        if self.subtracts:
            mean = np.empty(len(found.order))
            mean[found.order] = -found.offset / found.scale
            stored = store_constant(graph, f"{pixels.name}.mean", mean.reshape(-1, 1, 1), found.dtype, rounded=False)
            self._stem = self._then(self._as_floats(self._stem), "centred", op.Sub, stored)

    def take(self, reader: Reader) -> None:
        """Let a convolution read the pixels: `W'_m = (W_mc s_c by x's channel, sum_c W_mc t_c)`."""
        node = reader.node
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
        elif found.offset.any() and not self.subtracts:
            bias = float64_constant(node.inputs[2]) if len(node.inputs) > 2 else None
            total = shift.reshape(m, -1).sum(axis=1) + (0.0 if bias is None else bias)
            node.resize_inputs(3)
            name = f"{layer_name(node)}.bias"
            node.replace_input_with(2, store_constant(self._graph, name, total, stored.dtype, rounded=False))
        node.replace_input_with(1, store_constant(self._graph, str(stored.name), new, stored.dtype, rounded=False))
        source = self._source(groups)
        if reader.pad is None:
            node.replace_input_with(0, source)
        else:
            reader.pad.replace_input_with(0, source)
            padded = reader.pad.outputs[0]
            if padded.shape is not None and source.shape is not None:
                padded.shape = ir.Shape([*padded.shape[:CHANNEL], source.shape[CHANNEL], *padded.shape[2:]])

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
                value = self._then(value, f"of_{groups}_groups", op.Gather, indices, axis=CHANNEL)
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
        sizes: list[Any] = list(value.shape.dims) if value.shape is not None else [None] * RANK
        if op_type == op.Transpose:
            sizes = [sizes[axis] for axis in self._map.axes]
        elif op_type == op.Pad:
            sizes[CHANNEL] = len(self._map.order) + 1
        elif op_type == op.Gather:
            sizes[CHANNEL] = others[0].const_value.shape[0] if others[0].const_value is not None else None
        out.shape = ir.Shape(sizes)
        self._graph.insert_before(self._first, node)
        return out
