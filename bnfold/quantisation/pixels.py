"""Bytes that a file is given are the integers of its first convolutions: they are not quantised again.

    x (u8) -> Pad (1) -> Cast -> Conv (W)    =    x (u8) -> Pad (255) -> DequantizeLinear (1, 0) -> Conv (W / a)

where a is 255 for a channel of ones and 1 for any other. `bnfold.folding.preprocessing` writes such a channel for the
mean: its weights are up to 255 times as large as those of pixels, and would leave these no digits of 8 bits. Where the
image was resized in between, pixels are floats, and quantised: steps of 257/256 then, and ones of 255 such steps, since
means of bytes often lie at a half, and ONNX Runtime rounds these to either side.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from bnfold.graph import operators as op
from bnfold.graph.constants import attribute, constant, parameter, store_constant
from bnfold.graph.edit import drop_unused_initializers
from bnfold.graph.operators import kind_of
from bnfold.quantisation.digits import digits_to_units

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from bnfold.records.recipes import Recipe

__all__ = ["BYTES", "cast_last", "only_integers", "with_pixels"]

BYTES = (0.0, 255.0)
_FLOATS = BYTES[1] * 257 / 256
_CHANNEL = 1
Array = np.ndarray


def cast_last(graph: ir.Graph) -> None:
    """Cast bytes to float behind a Pad of zeros, not in front of it; in place."""
    for pad in list(graph):
        cast = pad.inputs[0].producer() if kind_of(pad) == op.Pad and pad.inputs[0] is not None else None
        if cast is None or not _makes_floats(cast) or _fill(pad) != 0 or pad.graph is not cast.graph:
            continue
        x, y, fill = cast.inputs[0], pad.outputs[0], pad.inputs[2] if len(pad.inputs) > 2 else None
        zero = None if fill is None else store_constant(graph, f"{y.name}/zero", np.zeros(()), ir.DataType.UINT8)
        others = [pad.inputs[1], zero, *pad.inputs[3:]]
        moved = ir.node(op.Pad, [x, *others], attributes=dict(pad.attributes), name=pad.name)
        out = moved.outputs[0]
        out.name, out.type, out.shape = f"{y.name}/bytes", ir.TensorType(ir.DataType.UINT8), y.shape
        floats = ir.node(op.Cast, [out], attributes=dict(cast.attributes), name=f"{pad.name}/{cast.name}")
        last = floats.outputs[0]
        last.type, last.shape = y.type, y.shape
        graph.insert_before(pad, [moved, floats])
        ir.convenience.replace_all_uses_with(y, last, replace_graph_outputs=True)
        last.name, y.name = y.name, None
        graph.remove(pad, safe=True)
        if not cast.outputs[0].uses() and not cast.outputs[0].is_graph_output():
            graph.remove(cast, safe=True)


def with_pixels(recipe: Recipe, graph: ir.Graph) -> Recipe:
    """The recipe with the pixels that integer kernels read; channels of ones become 255 for it, in place.

    Asked again, of another recipe, channels that are 255 stay so, whoever reads them then.

    Args:
        recipe: what is in integers.
        graph: as `prepared` made it, with `bnfold.quantisation.digits` attached.
    """
    integer = {plan.name for plan in recipe.nodes}
    found: dict[str, Array] = {}
    for pad in list(graph):
        dtype = pad.outputs[0].dtype or ir.DataType.FLOAT
        full = BYTES[1] if dtype == ir.DataType.UINT8 else _FLOATS
        was_stretched = _was_stretched(pad)
        readers = {str(node.name) for node in graph} if was_stretched else integer
        behind = _stretched(pad, full, readers, full if was_stretched else 1.0) if kind_of(pad) == op.Pad else None
        if not behind:
            continue
        found |= {str(value.name): scale for value, scale in behind.items()}
        if not was_stretched:
            pad.replace_input_with(2, store_constant(graph, _fill_name(pad), np.array(full), dtype))
            _divide_weights(graph, behind)
    casts = [node for node in graph if _makes_floats(node) and _reads_some(node.outputs[0], integer)]
    for cast in casts:
        y = cast.outputs[0]
        channels = y.shape[_CHANNEL] if y.shape is not None and len(y.shape) > 1 else None
        found.setdefault(str(y.name), np.ones(channels if isinstance(channels, int) else 1))
    as_they_are = frozenset(str(cast.outputs[0].name) for cast in casts if recipe.activations == "u8")
    gone = {str(cast.name) for cast in casts if cast.outputs[0].name in as_they_are and only_integers(cast, integer)}
    others = {name: reason for name, reason in recipe.others.items() if name not in gone}
    return dataclasses.replace(recipe, pixels=found, bytes=as_they_are, others=others)


def only_integers(cast: ir.Node, integer: Collection[str]) -> bool:
    """Whether none but integer kernels read what a Cast of bytes writes.

    Args:
        cast: the node.
        integer: the names of the nodes in integers.
    """
    y = cast.outputs[0]
    return not y.is_graph_output() and all(_is_integer(use.node, use.idx, integer) for use in y.uses())


def _makes_floats(node: ir.Node) -> bool:
    """Whether a node turns bytes into float32."""
    x, y = (node.inputs[0] if node.inputs else None), node.outputs[0]
    return kind_of(node) == op.Cast and x is not None and x.dtype == ir.DataType.UINT8 and y.dtype == ir.DataType.FLOAT


def _is_integer(node: ir.Node, index: int, integer: Collection[str]) -> bool:
    return index == 0 and kind_of(node) == op.Conv and str(node.name) in integer


def _reads_some(value: ir.Value, integer: Collection[str]) -> bool:
    """Whether an integer kernel reads a value."""
    return any(_is_integer(use.node, use.idx, integer) for use in value.uses())


def _fill(pad: ir.Node) -> float | None:
    """What a Pad writes; None where that is computed, or not one number."""
    if attribute(pad, "mode", "constant") != "constant":
        return None
    value = pad.inputs[2] if len(pad.inputs) > 2 else None
    stored = constant(value)
    return 0.0 if value is None else float(stored.reshape(-1)[0]) if stored is not None and stored.size == 1 else None


def _fill_name(pad: ir.Node) -> str:
    """The name of the number that a Pad of ones gets in its place."""
    return f"{pad.outputs[0].name}/255"


def _was_stretched(pad: ir.Node) -> bool:
    """Whether a Pad has that number."""
    fill = pad.inputs[2] if kind_of(pad) == op.Pad and len(pad.inputs) > 2 else None
    return fill is not None and fill.name == _fill_name(pad)


def _stretched(pad: ir.Node, full: float, integer: Collection[str], fill: float) -> dict[ir.Value, Array] | None:
    """How many times as large the channels are that convolutions read, were a Pad of ones to fill another number.

    None where it does anything else, or where others than integer kernels read them.

    Args:
        pad: the node.
        full: the number.
        integer: the names of the nodes in integers.
        fill: what the Pad fills now.
    """
    widths, x = constant(pad.inputs[1]), pad.inputs[0]
    if x is None or _fill(pad) != fill or widths is None or len(widths) % 2 or len(pad.inputs) > 3:
        return None
    by_end = widths.reshape(2, -1)
    n = _channels(x, pad.outputs[0], int(by_end[:, _CHANNEL].sum()))
    if n is None:
        return None
    if (by_end < 0).any() or by_end[:, _CHANNEL].sum() == 0 or np.delete(by_end, _CHANNEL, axis=1).any():
        return None
    before, behind = (np.full(int(more), full) for more in by_end[:, _CHANNEL])
    return _floats_behind(pad.outputs[0], np.concatenate([before, np.ones(n), behind]), integer)


def _channels(value: ir.Value, padded: ir.Value, added: int) -> int | None:
    """How many channels a value has, by its shape or by the weights of what reads it padded."""
    n = value.shape[_CHANNEL] if value.shape is not None and len(value.shape) > _CHANNEL else None
    if isinstance(n, int):
        return n
    for use in padded.uses():
        weight = constant(use.node.inputs[1]) if kind_of(use.node) == op.Conv and use.idx == 0 else None
        if weight is not None:
            return int(weight.shape[1] * attribute(use.node, "group", 1)) - added
    return None


def _floats_behind(value: ir.Value, scale: Array, integer: Collection[str]) -> dict[ir.Value, Array] | None:
    """The values of floats behind one that integer kernels read, and how many times as large their channels are."""
    if value.is_graph_output():
        return None
    found = {value: scale} if value.dtype == ir.DataType.FLOAT and _reads_some(value, integer) else {}
    for use in value.uses():
        node = use.node
        if value.dtype == ir.DataType.FLOAT and _is_integer(node, use.idx, integer):
            continue
        picked = (
            constant(node.inputs[1]) if kind_of(node) == op.Gather and attribute(node, "axis", 0) == _CHANNEL else None
        )
        added = kind_of(node) == op.Pad and _fill(node) == 0 and _pads_space(node)
        if use.idx or not (picked is not None or added or _makes_floats(node)):
            return None
        inner = _floats_behind(node.outputs[0], scale if picked is None else scale[picked], integer)
        if inner is None:
            return None
        found |= inner
    return found


def _pads_space(pad: ir.Node) -> bool:
    widths = constant(pad.inputs[1])
    return widths is not None and len(pad.inputs) < 4 and not widths.reshape(2, -1)[:, : _CHANNEL + 1].any()


def _divide_weights(graph: ir.Graph, scales: Mapping[ir.Value, Array]) -> None:
    """W / a of the convolutions that read values stored a times as large, in place."""
    for value, scale in scales.items():
        for node in dict.fromkeys(use.node for use in value.uses()):
            weight = parameter(node, 1)
            m, per_group = weight.shape[:2]
            groups = int(attribute(node, "group", 1))
            own = scale.reshape(groups, per_group)[np.arange(m) // (m // groups)]
            divided = weight / own.reshape(m, per_group, *(1,) * (weight.ndim - 2))
            stored = store_constant(graph, f"{node.name}/weight/bytes", divided, ir.DataType.FLOAT)
            node.replace_input_with(1, stored)
    digits_to_units(graph, {str(value.name): scale for value, scale in scales.items()})
    drop_unused_initializers(graph)
