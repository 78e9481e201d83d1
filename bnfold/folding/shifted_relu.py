"""Move a BatchNorm that had to stay behind its ReLU, where linear readers can take it.

    relu(s x + t) = s max(x, -t / s) + t        for s > 0

The ReLU wants an offset of 0 and so holds a BatchNorm in place; Max with a constant per channel keeps any units. It
costs one constant more to read per channel, which some runtimes do not fuse: a rewrite to be measured, not assumed.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from bnfold.folding.provenance import take_over
from bnfold.folding.relations.affine import channel_affine
from bnfold.graph import operators as op
from bnfold.graph.constants import attribute, float64_constant, store_constant
from bnfold.graph.layers import layer_name
from bnfold.graph.operators import kind_of
from bnfold.graph.shapes import static_length
from bnfold.numerics.affine import Float64

__all__ = ["move_behind_relu"]


def move_behind_relu(nodes: Iterable[ir.Node]) -> list[ir.Node]:
    """Rewrite each BatchNorm in front of a ReLU that only unpadded linear operators read, in place.

    Returns:
        The BatchNorms that now stand behind a Max.
    """
    moved = []
    for node in nodes:
        found = _eligible(node)
        if found is not None:
            _rewrite(node, *found)
            moved.append(node)
    return moved


def _eligible(node: ir.Node) -> tuple[ir.Node, Float64] | None:
    """The ReLU behind a BatchNorm of positive scales, and -t / s, shape (C,)."""
    y = node.outputs[0]
    relus = [use.node for use in y.uses()]
    channels = static_length(y, 1)
    if node.graph is None or channels is None or len(relus) != 1 or kind_of(relus[0]) != op.Relu or y.is_graph_output():
        return None
    relu = relus[0]
    readers = list(relu.outputs[0].uses())
    affine = channel_affine(node, channels)
    if affine is None or relu.graph is not node.graph or relu.outputs[0].is_graph_output() or not readers:
        return None
    _, scale, shift = affine
    if not all(use.idx == 0 and _takes_offset(use.node) for use in readers) or (scale <= 0).any():
        return None
    return relu, -shift / scale


def _takes_offset(node: ir.Node) -> bool:
    """Whether a node is a Conv without padding or a Gemm, with constant weights."""
    if len(node.inputs) < 2 or float64_constant(node.inputs[1]) is None:
        return False
    if kind_of(node) == op.Gemm:
        return not attribute(node, "transA", 0)
    unpadded = not any(attribute(node, "pads", ())) and attribute(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID")
    return kind_of(node) == op.Conv and unpadded


def _rewrite(node: ir.Node, relu: ir.Node, floor: Float64) -> None:
    graph, x, y = node.graph, node.inputs[0], node.outputs[0]
    if not isinstance(graph, ir.Graph) or x is None or x.dtype is None:
        raise ValueError(f"BatchNormalization `{layer_name(node)}` stands in no graph or has no typed input")
    rank = len(y.shape) if y.shape is not None else 2
    column = floor.reshape(-1, *[1] * (rank - 2))
    constant = store_constant(graph, f"{layer_name(node)}.floor", column, x.dtype, rounded=False)
    largest = ir.node(op.Max, [x, constant], metadata_props=dict(relu.metadata_props))
    out = largest.outputs[0]
    out.shape, out.type = x.shape, x.type
    graph.insert_before(node, largest)
    node.replace_input_with(0, out)
    take_over(y, relu.outputs[0])
    ir.convenience.replace_all_uses_with(relu.outputs[0], y)
    graph.remove(relu, safe=True)
