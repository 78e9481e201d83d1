"""The bias of zeros that PyTorch's exporter gives to every convolution without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from bnfold.graph import operators as op
from bnfold.graph.operators import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["drop_zero_biases"]

CONVOLUTIONS = (op.Conv, op.ConvTranspose)
BIAS = 2  # the position of the optional input B of Conv and ConvTranspose
_SAME_ZERO = (op.Cast, op.CastLike, op.Expand, op.Identity, op.Reshape)


def drop_zero_biases(model: ir.Model) -> None:
    """conv(x, W, 0) = conv(x, W): remove biases that are computed as Expand of a constant zero, in place.

    The unoptimized exporter computes them at run time, for a Conv3d in the shape (C, 2), which no runtime accepts.
    """
    dropped = False
    for node in _convolutions(model):
        if len(node.inputs) > BIAS and _is_expanded_zero(node.inputs[BIAS]):
            node.resize_inputs(BIAS)
            dropped = True
    if dropped:
        passes.RemoveUnusedNodesPass()(model)


def _convolutions(model: ir.Model) -> Iterator[ir.Node]:
    for node in model.graph.all_nodes():
        if kind_of(node) in CONVOLUTIONS:
            yield node


def _is_expanded_zero(value: ir.Value | None) -> bool:
    """Whether a value is computed from one constant zero, of which only type and shape are changed."""
    if value is None or value.producer() is None:
        return False
    while value is not None and (node := value.producer()) is not None and kind_of(node) in _SAME_ZERO:
        value = node.inputs[0]
    if value is None or value.is_graph_input():
        return False
    tensor = ir.convenience.get_const_tensor(value)
    return tensor is not None and tensor.size == 1 and not np.any(tensor.numpy())
