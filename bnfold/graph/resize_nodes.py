"""Resize and centre crop as nodes, as image classifiers are fed: the shorter side becomes `side`, the centre is kept.

    (h, w) -> (h side // s, w side // s)            s = min(h, w)
    from round((h' - height) / 2), round((w' - width) / 2) on, halves to even

Antialiased: each pixel is the mean, weighted by a filter as wide as the step between the new pixels, of all old ones
below it (ONNX Resize of opset 18; Pillow; torch.nn.functional.interpolate with antialias=True). Sizes and crop are
those of torchvision's Resize and CenterCrop. Values are floats: nothing is rounded to 8 bits in between. Channels stand
in front of height and width: ONNX Runtime 1.32 computes an antialiased Resize of other axes wrongly, without a word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
_AXES = [2, 3]
_CHANNELS_FIRST, _CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]
_MODES = {"bilinear": "linear", "bicubic": "cubic"}


def resize_nodes(
    graph: ir.Graph,
    image: ir.Value,
    *,
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
        side: the length that the shorter side becomes.
        crop: height and width of what is kept; None for all.
        channel: the axis of the channels, 1 or 3.
        interpolation: "bilinear" or "bicubic".
        name: in front of all names.
    """
    nodes: list[ir.Node] = []

    def then(
        op_type: str, *inputs: ir.Value | None, dtype: ir.DataType = ir.DataType.INT64, **attributes: object
    ) -> ir.Value:
        node = ir.node(op_type, list(inputs), attributes=attributes, name=f"{name}.{len(nodes)}.{op_type.lower()}")  # type: ignore[arg-type]
        nodes.append(node)
        out = node.outputs[0]
        out.name, out.type = node.name, ir.TensorType(dtype)
        return out

    def whole(called: str, numbers: Sequence[int]) -> ir.Value:
        return store_constant(graph, f"{name}.{called}", np.array(numbers), ir.DataType.INT64)

    dtype = image.dtype or ir.DataType.FLOAT
    dims: Sizes = [*image.shape.dims] if image.shape is not None else [None] * 4
    if channel != 1:
        dims = [dims[axis] for axis in _CHANNELS_FIRST]
        image = then(op.Transpose, image, dtype=dtype, perm=_CHANNELS_FIRST)
        image.shape = ir.Shape(dims)
    lengths = then(op.Shape, image, start=_AXES[0], end=_AXES[1] + 1)
    shorter = then(op.ReduceMin, lengths, keepdims=1)
    sizes = then(op.Div, then(op.Mul, lengths, whole("side", [side])), shorter)
    resized = then(
        op.Resize, image, None, None, sizes, dtype=dtype, axes=_AXES, antialias=1, mode=_MODES[interpolation],
        coordinate_transformation_mode="half_pixel", cubic_coeff_a=CUBIC,
    )  # fmt: skip
    free = [ir.SymbolicDim(f"{name}.resized.{which}") for which in ("height", "width")]
    dims[_AXES[0] :] = free
    resized.shape = ir.Shape(dims)
    if crop is not None:
        kept = whole("crop", crop)
        rest = then(op.Cast, then(op.Sub, sizes, kept), dtype=ir.DataType.FLOAT, to=int(ir.DataType.FLOAT))
        half = store_constant(graph, f"{name}.half", np.array(0.5), ir.DataType.FLOAT)
        first = then(op.Round, then(op.Mul, rest, half, dtype=ir.DataType.FLOAT), dtype=ir.DataType.FLOAT)
        start = then(op.Cast, first, to=int(ir.DataType.INT64))
        resized = then(op.Slice, resized, start, then(op.Add, start, kept), whole("axes", _AXES), dtype=dtype)
        dims[_AXES[0] :] = crop
        resized.shape = ir.Shape(dims)
    if channel != 1:
        last = then(op.Transpose, resized, dtype=dtype, perm=_CHANNELS_LAST)
        last.shape = ir.Shape([dims[axis] for axis in _CHANNELS_LAST])
    return nodes
