"""Scales and shifts that stand where a runtime had a blocked kernel, as depthwise convolutions.

s x + t = conv(x, W, t),   W = s of shape (C, 1, 1, 1), groups of one channel
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from bnfold.folding.provenance import take_over
from bnfold.graph import operators as op
from bnfold.graph.constants import float64_constant, store_constant
from bnfold.graph.layers import layer_name
from bnfold.graph.operators import kind_of
from bnfold.graph.shapes import static_length
from bnfold.numerics.affine import Float64

__all__ = ["scales_as_convolutions"]


def scales_as_convolutions(graph: ir.Graph, blocked: Collection[ir.Node]) -> None:
    """Write `y = s x + t` that could not vanish as a depthwise convolution of 1x1, where a blocked kernel stood before.

    ONNX Runtime computes these with a blocked kernel, and has none for Mul and Add of a constant: it would reorder all
    that they read and write. The multiply-adds are those that the BatchNorm took.
    """
    for node in list(graph):
        if node.graph is graph and node in blocked:
            _as_convolution(graph, node, blocked)


def _as_convolution(graph: ir.Graph, node: ir.Node, blocked: Collection[ir.Node]) -> None:
    """One Mul or Add of a constant per channel of a batch of images, and the Add of another behind a Mul."""
    (x, constants), last = _operands(node), node
    scale, shift = (constants, None) if kind_of(node) == op.Mul else (None, constants)
    follower = _only_reader(node)
    if kind_of(node) == op.Mul and follower is not None and follower in blocked:
        last, shift = follower, _operands(follower)[1]
    n = static_length(node.outputs[0], 1)
    dtype = node.outputs[0].dtype
    if x is None or x.shape is None or len(x.shape) != 4 or n is None or dtype is None:
        return
    if any(array is not None and array.size not in (1, n) for array in (scale, shift)):
        return
    weight = np.broadcast_to(np.ones(1) if scale is None else scale.ravel(), (n,)).reshape(n, 1, 1, 1)
    bias = [] if shift is None else [np.broadcast_to(shift.ravel(), (n,))]
    stored = [
        store_constant(graph, f"{layer_name(node)}.{name}", array, dtype, rounded=False)
        for name, array in zip(("weight", "bias"), [weight, *bias], strict=False)
    ]
    new = ir.node(op.Conv, [x, *stored], {"group": n, "kernel_shape": [1, 1]}, metadata_props=dict(node.metadata_props))
    graph.insert_before(node, new)
    y, out = last.outputs[0], new.outputs[0]
    out.shape, out.type = y.shape, y.type
    take_over(out, y)
    ir.convenience.replace_all_uses_with(y, out, replace_graph_outputs=True)
    if out.is_graph_output():
        out.name, y.name = y.name, None
    for old in dict.fromkeys((last, node)):
        graph.remove(old, safe=True)


def _operands(node: ir.Node) -> tuple[ir.Value | None, Float64 | None]:
    """What a Mul or Add of a constant takes: the value and the constant."""
    constants = [float64_constant(value) for value in node.inputs]
    varying = [value for value, array in zip(node.inputs, constants, strict=True) if array is None]
    arrays = [array for array in constants if array is not None]
    return (varying[0], arrays[0]) if len(varying) == len(arrays) == 1 else (None, None)


def _only_reader(node: ir.Node) -> ir.Node | None:
    """The node that alone reads the output."""
    y = node.outputs[0]
    uses = list(y.uses())
    return uses[0].node if len(uses) == 1 and not y.is_graph_output() and uses[0].node.graph is node.graph else None
