"""Preprocessing of pixels goes into the first convolutions, exactly, also at a border that is padded with zeros.

    conv(pad(s x + t))_m  =  conv(pad(x))_m with W s  +  sum_c t_c sum_k W_mck 1[tap k lies inside the image]

The second sum is a convolution of ones, padded alike: one more channel of ones, whose weights are `sum_c W_mck t_c`,
tap by tap. So it is exact at the border for every height and width. Where nothing is padded all taps lie inside, and a
bias takes it. An order of channels, `y_c = s_c x_o(c) + t_c`, reorders the weights. A grouped convolution has a channel
of ones in each group. A Pad of zeros over space in front of the convolution, as networks from TensorFlow have it, is a
border like any other: it pads the ones too. Where such a channel would take longer than a node that subtracts the mean,
the mean stays one: `conv(pad(x - m))` with weights W s. What resizes and crops the image stands in front of all this.
ONNX: Conv, Pad, Cast, Transpose, Gather.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from bnfold.folding.pixel_writer import CHANNEL, RANK, PixelMap, PixelWriter, Reader, needs_ones
from bnfold.graph import operators as op
from bnfold.graph.constants import attribute, constant, float64_constant, is_float, parameter
from bnfold.graph.layers import layer_name
from bnfold.graph.operators import kind_of
from bnfold.records.input_format import PreprocessingFold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["fold_preprocessing"]

_PAD_BY_INPUT = 11  # the opset from which Pad reads its lengths from an input
_AFFINE = (op.Add, op.Sub, op.Mul, op.Div)


def fold_preprocessing(model: ir.Model, name: str, ones_limit: int | None = None) -> PreprocessingFold:
    """Fold what stands between an input and the convolutions that read it into these, in place.

    Args:
        model: whose input is pixels, as `bnfold.graph.preprocessing_nodes` writes it.
        name: of the input.
        ones_limit: multiply-adds for each pixel of the image that a channel of ones may cost; None for any number.

    Returns:
        The layers that took it, or why the nodes stay.
    """
    graph = model.graph
    given = next(value for value in graph.inputs if value.name == name)
    pixels = _fitted(given)
    nodes, end = _chain(pixels)
    readers = _readers(end)
    found = _map(pixels, nodes, end)
    reason = _obstacle(found, end, readers, model.opset_imports.get("", 0))
    if reason is not None or found is None:
        return PreprocessingFold("explicit", reason=reason, resized=pixels is not given)
    work = _work_of_ones(readers) if needs_ones(found, readers) else 0
    ones = ones_limit is None or work <= ones_limit or not found.scale.all()
    writer = PixelWriter(graph, pixels, found, readers, model.opset_imports.get("", 0), ones=ones)
    for reader in readers:
        writer.take(reader)
    passes.RemoveUnusedNodesPass()(model)
    into = tuple(layer_name(reader.node) for reader in readers)
    reason = None if ones else f"a channel of ones takes {work} multiply-adds a pixel, a node the time of {ones_limit}"
    return PreprocessingFold(
        "folded", into=into, reason=reason, resized=pixels is not given, mean_in_node=writer.subtracts
    )


def _work_of_ones(readers: Sequence[Reader]) -> int:
    """Multiply-adds for each pixel of the image that one more channel costs these convolutions."""
    total = 0.0
    for reader in readers:
        outputs, _, *taps = parameter(reader.node, 1).shape
        total += outputs * math.prod(taps) / math.prod(attribute(reader.node, "strides", (1, 1)))
    return round(total)


def _fitted(pixels: ir.Value) -> ir.Value:
    """The image behind the nodes that resize and crop it; the pixels where there are none."""
    fitted = value = pixels
    while True:
        users = [(node, index) for node, index in value.uses() if kind_of(node) != op.Shape]
        if value.is_graph_output() or len(users) != 1:
            return fitted
        ((node, index),) = users
        if index != 0 or kind_of(node) not in (op.Transpose, op.Cast, op.Resize, op.Slice):
            return fitted
        value = node.outputs[0]
        fitted = value if kind_of(node) in (op.Resize, op.Slice) else fitted


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


def _readers(end: ir.Value) -> list[Reader]:
    """All nodes that read a value, those behind a Pad of zeros in place of the Pad."""
    found: dict[Reader, None] = {}
    for node, index in end.uses():
        through = index == 0 and _pads_zeros(node) and not node.outputs[0].is_graph_output()
        behind = [Reader(user, node) for user, _ in node.outputs[0].uses()] if through else [Reader(node)]
        found.update(dict.fromkeys(behind))
    return list(found)


def _pads_zeros(node: ir.Node) -> bool:
    """Whether a node pads zeros over space, and nothing else."""
    if kind_of(node) != op.Pad or attribute(node, "mode", "constant") != "constant" or len(node.inputs) < 2:
        return False
    widths, fill = constant(node.inputs[1]), node.inputs[2] if len(node.inputs) > 2 else None
    zeros = fill is None or (constant(fill) is not None and not np.any(constant(fill)))
    by_end = None if widths is None or len(widths) != 2 * RANK else widths.reshape(2, RANK)
    return zeros and len(node.inputs) < 4 and by_end is not None and not by_end[:, : CHANNEL + 1].any()


def _map(pixels: ir.Value, nodes: Sequence[ir.Node], end: ir.Value) -> PixelMap | None:
    """What the nodes compute, followed back from the channels that are read; None where it is no such map."""
    n = end.shape[CHANNEL] if end.shape is not None and len(end.shape) == RANK else None
    if not isinstance(n, int) or end.dtype is None or not is_float(end):
        return None
    axes, channel = tuple(range(RANK)), CHANNEL
    order, scale, offset = np.arange(n), np.ones(n), np.zeros(n)
    for node in reversed(nodes):
        kind = kind_of(node)
        if kind == op.Transpose:
            moved = tuple(attribute(node, "perm", tuple(reversed(range(RANK)))))
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
    return PixelMap(axes, end.dtype, order, scale, offset)


def _by_channel(node: ir.Node, channel: int, n: int) -> NDArray[np.float64] | None:
    """The constant of a node, one number for each channel; None where it varies along another axis."""
    numbers = float64_constant(node.inputs[1])
    if numbers is None or numbers.ndim > RANK:
        return None
    shape = (1,) * (RANK - numbers.ndim) + numbers.shape
    if any(size != 1 for axis, size in enumerate(shape) if axis != channel):
        return None
    return np.broadcast_to(numbers.reshape(-1), (n,))


def _obstacle(found: PixelMap | None, end: ir.Value, readers: Sequence[Reader], opset: int) -> str | None:
    """Why the nodes must stay, None where all that reads them can take their work."""
    if found is None:
        return "it is no map of single channels"
    if end.is_graph_output() or not readers:
        return "the preprocessed input is an output, or is not read"
    for reader in readers:
        node, read = reader.node, end if reader.pad is None else reader.pad.outputs[0]
        name = layer_name(node)
        if kind_of(node) != op.Conv or [value is read for value in node.inputs].index(True) != 0:
            return f"{node.op_type} `{name}` reads the preprocessed input, and is no convolution of it"
        weight = float64_constant(node.inputs[1])
        if weight is None or (len(node.inputs) > 2 and node.inputs[2] is not None and constant(node.inputs[2]) is None):
            return f"the parameters of `{name}` are computed"
        if weight.shape[1] * attribute(node, "group", 1) != len(found.order):
            return f"`{name}` reads another number of channels"
        if reader.pad is not None and attribute(node, "group", 1) > 1:
            return f"`{name}` has groups, and reads its border from Pad `{layer_name(reader.pad)}`"
    if opset < _PAD_BY_INPUT:
        return f"Pad of opset {opset} adds no channel"
    return None
