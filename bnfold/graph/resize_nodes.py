"""Resize and centre crop as nodes, as image classifiers are fed: the shorter side becomes `side`, the centre is kept.

    (h, w) -> (h side // s, w side // s)            s = min(h, w)
    from round((h' - height) / 2), round((w' - width) / 2) on, halves to even

Antialiased: each pixel is the mean, weighted by a filter as wide as the step between the new pixels, of all old ones
below it (ONNX Resize of opset 18; Pillow; torch.nn.functional.interpolate with antialias=True). Sizes and crop are
those of torchvision's Resize and CenterCrop. Values are floats: nothing is rounded to 8 bits in between.
`exclude_outside` is what Pillow and PyTorch do at the border; without it the edge would count for all that lies beyond.
Resize is given the lengths of all axes, and Shape the pixels: moving a Transpose to a Resize or a Shape of some axes,
ONNX Runtime 1.32 makes a graph of an int8 file that it does not load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from bnfold.graph import operators as op
from bnfold.graph.constants import store_constant

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["OLDEST_OPSET", "Sizes", "resize_nodes"]

Sizes = list[int | ir.SymbolicDim | None]

OLDEST_OPSET = 18  # antialias
CUBIC = -0.5  # Keys' kernel, as Pillow and PyTorch have it where they filter
_MODES = {"bilinear": "linear", "bicubic": "cubic"}


def resize_nodes(
    graph: ir.Graph,
    image: ir.Value,
    pixels: ir.Value,
    *,
    pixels_layout: str,
    side: int,
    crop: tuple[int, int] | None,
    channel: int,
    interpolation: str,
    name: str,
) -> list[ir.Node]:
    """The nodes, in order, not in the graph yet; the last one writes the image.

    Args:
        graph: that takes the constants.
        image: floats, with rank and type known.
        pixels: the same as the file is given it, whose lengths are asked for.
        pixels_layout: "nhwc" or "nchw".
        side: the length that the shorter side becomes.
        crop: height and width of what is kept; None for all.
        channel: the axis of the channels, 1 or 3.
        interpolation: "bilinear" or "bicubic".
        name: in front of all names.
    """
    nodes: list[ir.Node] = []

    def then(
        op_type: str, *inputs: ir.Value | None, dtype: ir.DataType = ir.DataType.INT64, **attributes: Any
    ) -> ir.Value:
        node = ir.node(op_type, list(inputs), attributes=attributes, name=f"{name}.{len(nodes)}.{op_type.lower()}")
        nodes.append(node)
        out = node.outputs[0]
        out.name, out.type = node.name, ir.TensorType(dtype)
        return out

    def whole(called: str, numbers: Sequence[int]) -> ir.Value:
        return store_constant(graph, f"{name}.{called}", np.array(numbers), ir.DataType.INT64)

    dtype = image.dtype or ir.DataType.FLOAT
    dims: Sizes = [*image.shape.dims] if image.shape is not None else [None] * 4
    axes = [2, 3] if channel == 1 else [1, 2]
    rows = slice(axes[0], axes[1] + 1)
    first_of_pixels = 1 if pixels_layout == "nhwc" else 2
    lengths = then(op.Shape, pixels, start=first_of_pixels, end=first_of_pixels + 2)
    n = then(op.Shape, pixels, start=0, end=1)
    n_channels = dims[channel]
    if not isinstance(n_channels, int):
        raise TypeError(f"the number of channels must be an int, got {n_channels}")
    channels = whole("channels", [n_channels])
    shorter = then(op.ReduceMin, lengths, keepdims=1)
    sizes = then(op.Div, then(op.Mul, lengths, whole("side", [side])), shorter)
    resized = then(
        op.Resize, image, None, None, then(op.Concat, *_around(sizes, n, channels, channel), axis=0), dtype=dtype,
        antialias=1, mode=_MODES[interpolation], coordinate_transformation_mode="half_pixel", cubic_coeff_a=CUBIC,
        exclude_outside=1,
    )  # fmt: skip
    free = [ir.SymbolicDim(f"{name}.resized.{which}") for which in ("height", "width")]
    dims[rows] = free
    resized.shape = ir.Shape(dims)
    if crop is not None:
        kept = whole("crop", crop)
        rest = then(op.Cast, then(op.Sub, sizes, kept), dtype=ir.DataType.FLOAT, to=int(ir.DataType.FLOAT))
        half = store_constant(graph, f"{name}.half", np.array(0.5), ir.DataType.FLOAT)
        first = then(op.Round, then(op.Mul, rest, half, dtype=ir.DataType.FLOAT), dtype=ir.DataType.FLOAT)
        start = then(op.Cast, first, to=int(ir.DataType.INT64))
        resized = then(op.Slice, resized, start, then(op.Add, start, kept), whole("axes", axes), dtype=dtype)
        dims[rows] = crop
        resized.shape = ir.Shape(dims)
    return nodes


def _around(sizes: ir.Value, n: ir.Value, channels: ir.Value, channel: int) -> tuple[ir.Value, ...]:
    """The lengths of all axes, height and width between the others as they stand."""
    return (n, channels, sizes) if channel == 1 else (n, sizes, channels)
