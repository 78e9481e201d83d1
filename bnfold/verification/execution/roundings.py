"""Stored parameters, and numbers moved by what one rounding may move them: x (1 + u r), r uniform on [-1, 1]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, numpy_helper

from bnfold.graph.operators import Trait, having, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import onnx

__all__ = ["MANY_DRAWS", "PARAMETRIC", "SMALL_FEED", "moved_by_roundings", "n_draws", "stored_parameters"]

# Where the parameters of a network stand; sizes, axes and bounds (Resize, Clip, Pad) are none.
PARAMETRIC = having(Trait.PARAMETRIC)
_FLOATS = frozenset({TensorProto.BFLOAT16, TensorProto.FLOAT16, TensorProto.FLOAT})
MANY_DRAWS = 16  # for small rows: the error that a whole network has in common is one number, and needs as many draws
SMALL_FEED = 1 << 14  # values up to which a feed is drawn MANY_DRAWS times, and else once


def n_draws(feed: Mapping[str, np.ndarray]) -> int:
    """How often roundings are drawn for a feed."""
    return MANY_DRAWS if sum(array.size for array in feed.values()) <= SMALL_FEED else 1


def stored_parameters(model: onnx.ModelProto) -> Iterator[tuple[str, np.ndarray]]:
    """The stored tensors that are parameters, in float64."""
    read = {name for node in model.graph.node if kind_of(node) in PARAMETRIC for name in node.input}
    for tensor in model.graph.initializer:
        if tensor.name in read and tensor.data_type in _FLOATS:
            yield tensor.name, numpy_helper.to_array(tensor).astype(np.float64)


def moved_by_roundings(
    arrays: Mapping[str, np.ndarray], u: float, generator: np.random.Generator
) -> Iterator[tuple[str, np.ndarray]]:
    """Numbers of floating point moved by one rounding at random, in float64; others as they are."""
    for name, array in arrays.items():
        if array.dtype.kind in "iubUSO":
            yield name, array
        else:
            yield name, array.astype(np.float64) * (1 + u * generator.uniform(-1, 1, array.shape))
