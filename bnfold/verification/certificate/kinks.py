"""Operators with a kink inside a region: each channel must have been seen on both sides of it.

Between two linear operators of one region an activation could hide what is wrong in a channel that is off for every
number drawn. Where it is the first or the last operator of a region, what it reads or writes is compared itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bnfold.graph import operators as op
from bnfold.graph.operators import kind_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from onnx import NodeProto

    from bnfold.verification.certificate.graph import Graph
    from bnfold.verification.certificate.regions import Slice

__all__ = ["Seen", "data_of", "inner_kinks"]

# Those that only flatten out count too: a channel far from 0 is one number for them.
_AT_ZERO = frozenset(
    {op.Abs, op.Celu, op.Elu, op.Erf, op.Exp, op.LeakyRelu, op.Mish, op.PRelu, op.Relu, op.Selu, op.Sigmoid}
    | {op.ContribGelu, op.Gelu, op.Softplus, op.Softsign, op.Swish, op.Tanh}
)
_BOUNDED: dict[str, tuple[float, float]] = {op.HardSigmoid: (-3.0, 3.0), op.HardSwish: (-3.0, 3.0)}


def inner_kinks(part: Slice) -> list[NodeProto]:
    """The operators with a kink whose input is computed in the slice."""
    inner = {name for node in part.nodes for name in node.output}
    return [
        node
        for node in part.nodes
        if kind_of(node) in {*_AT_ZERO, *_BOUNDED, op.Clip, op.Max, op.Min} and data_of(node, inner)
    ]


def data_of(node: NodeProto, inner: Collection[str]) -> str:
    """The first operand that is computed; "" where none is."""
    return next((name for name in node.input if name in inner), "")


class Seen:
    """The least and the largest value of each channel in front of a kink, over several draws."""

    def __init__(self, node: NodeProto) -> None:
        self._node = node
        self._low: np.ndarray | None = None
        self._high: np.ndarray | None = None
        self._rank = 0

    def add(self, x: np.ndarray) -> None:
        if x.dtype.kind != "f" or not x.size:
            return
        axes = tuple(axis for axis in range(x.ndim) if axis != 1 or x.ndim == 1)
        low, high = x.min(axis=axes), x.max(axis=axes)
        same = self._low is not None and self._low.shape == low.shape
        self._low = np.minimum(self._low, low) if same and self._low is not None else low
        self._high = np.maximum(self._high, high) if same and self._high is not None else high
        self._rank = x.ndim

    @property
    def is_constant(self) -> bool:
        """Whether a channel was one number so far: what a large shift swallows, larger draws may still show."""
        return self._low is not None and bool((self._low == self._high).any())

    def unexcited(self, graph: Graph) -> int:
        """How many channels were not seen on both sides, those that always are one number left out."""
        if self._low is None or self._high is None:
            return 0
        low, high = self._low, self._high
        varies = low < high
        seen = np.ones_like(varies)
        for bound in _bounds(self._node, graph, self._rank):
            kink = bound if bound.ndim == 0 else bound.reshape(-1) if bound.size == low.size else bound.max()
            seen &= (low < kink) & (kink < high)
        return int(np.count_nonzero(varies & ~seen))


def _bounds(node: NodeProto, graph: Graph, rank: int) -> list[np.ndarray]:
    if kind_of(node) in _AT_ZERO:
        return [np.zeros(())]
    if kind_of(node) in _BOUNDED:
        return [np.array(bound) for bound in _BOUNDED[node.op_type]]
    given = [graph.constant(name) for name in node.input if name and graph.is_constant(name)]
    given += [np.array(a.f) for a in node.attribute if a.name in ("min", "max") and kind_of(node) == op.Clip]
    return [np.squeeze(bound) for bound in given if np.isfinite(bound).all() and np.ndim(bound) <= rank]
