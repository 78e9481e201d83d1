"""How much the outputs change with each channel of each value, by norms that are propagated from the outputs back.

    s_x[c] = sum_m sum_taps W[m, c]^2 s_y[m] / strides          y = W x
    s_x[c] = g[c]^2 s_y[c]                                      y = g x + t, a BatchNorm that stayed or a constant

Where the source is PyTorch, `gradients.py` measures s, and only what has no name there is propagated.

s is the mean square of the derivative of the outputs by an element, as if signs were random and activations passed half
of what they read. What matters is the ratio of channels, and that it follows their units: a channel stored a times as
large has s / a^2, exactly.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bnfold.graph import operators as op
from bnfold.graph.constants import attribute, constant, float64_constant
from bnfold.graph.operators import Trait, having, kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx_ir as ir

__all__ = ["channels_of", "sensitivities"]

Array = np.ndarray
HALF = 0.5
_PASS_HALF = having(Trait.HOMOGENEOUS) | {op.HardSwish, op.HardSigmoid, op.Sigmoid}


def channels_of(value: ir.Value) -> int:
    """The length of axis 1; 1 where it is not known."""
    shape = value.shape
    size = shape[1] if shape is not None and len(shape) > 1 else 1
    return size if isinstance(size, int) else 1


def sensitivities(
    graph: ir.Graph, positions: Mapping[str, float], known: Mapping[str, Array] | None = None
) -> dict[str, Array]:
    """s of every float value by name, shape (C,).

    Args:
        graph: prepared, float.
        positions: elements of a channel of a value in one sample, by name, as far as they are known.
        known: s of some values by name, from gradients, of which those of others follow.
    """
    found: dict[str, Array] = {str(value.name): np.ones(channels_of(value)) for value in graph.outputs}
    measured = dict(known or {})
    for node in reversed(list(graph)):
        for y in node.outputs:
            own = measured.get(str(y.name))
            if own is not None and len(own) == channels_of(y):
                found[str(y.name)] = own
        ys = [found[str(y.name)] for y in node.outputs if str(y.name) in found]
        if not ys:
            continue
        for index, x in enumerate(node.inputs):
            if x is None or constant(x) is not None:
                continue
            given = _given(node, index, x, ys[0], positions)
            name = str(x.name)
            found[name] = found[name] + given if name in found else given
    for x in graph.inputs:
        if len(measured.get(str(x.name), ())) == channels_of(x):
            found[str(x.name)] = measured[str(x.name)]
    return found


def _given(node: ir.Node, index: int, x: ir.Value, s: Array, positions: Mapping[str, float]) -> Array:
    """What one input of a node gets of the sensitivity of what it writes."""
    kind, channels = kind_of(node), channels_of(x)
    weight = float64_constant(node.inputs[1]) if kind.integers == "weights" and index == 0 else None
    if weight is not None:
        return _through_weight(node, weight, s, channels)
    factor = _constant_factor(node, index, len(s))
    if factor is not None:
        return s * factor**2 if channels == len(s) else np.full(channels, float((s * factor**2).mean()))
    shrink = positions.get(str(node.outputs[0].name), 1.0) / positions.get(str(x.name), 1.0)
    if kind == op.GlobalAveragePool:
        s = s * shrink**2
    elif kind == op.MaxPool:
        s = s * min(shrink, 1.0)
    elif kind == op.AveragePool:
        s = s * shrink / math.prod(attribute(node, "kernel_shape", [1]))
    elif kind == op.Concat and attribute(node, "axis", 0) == 1:
        start = sum(channels_of(value) for value in node.inputs[:index] if value is not None)
        s = s[start : start + channels] if len(s) >= start + channels else s
    elif kind in _PASS_HALF or kind == op.Mul:
        s = HALF * s
    return s if len(s) == channels else np.full(channels, s.mean())


def _constant_factor(node: ir.Node, index: int, channels: int) -> Array | None:
    """g of y = g x + t, one number for each channel; None where it has no constant operand."""
    kind, other = kind_of(node), None
    if kind == op.BatchNormalization and index == 0:
        scale, variance = float64_constant(node.inputs[1]), float64_constant(node.inputs[4])
        if scale is not None and variance is not None:
            return np.asarray(scale / np.sqrt(variance + float(attribute(node, "epsilon", 1e-5))))
        return None
    if kind == op.Mul or (kind == op.Div and index == 0):
        other = float64_constant(node.inputs[1 - index])
    y = node.outputs[0]
    if other is None or y.shape is None or other.ndim > len(y.shape):
        return None
    wide = other.reshape((1,) * (len(y.shape) - other.ndim) + other.shape)
    if wide.size not in (1, wide.shape[1] if wide.ndim > 1 else 1):
        return None
    with np.errstate(divide="ignore"):
        factor = wide.reshape(-1) if kind == op.Mul else 1 / wide.reshape(-1)
    return np.broadcast_to(factor, (channels,)) if len(factor) in (1, channels) else None


def _through_weight(node: ir.Node, weight: Array, s: Array, channels: int) -> Array:
    if kind_of(node) == op.Conv:
        groups = int(attribute(node, "group", 1))
        m, per_group = weight.shape[:2]
        squares = (weight**2).reshape(groups, m // groups, per_group, -1).sum(axis=3)
        through = np.einsum("gmc,gm->gc", squares, np.broadcast_to(s, (m,)).reshape(groups, -1)).ravel()
        return np.asarray(through / math.prod(attribute(node, "strides", [1])))
    transposed = kind_of(node) == op.Gemm and attribute(node, "transB", 0)
    matrix = weight if transposed else weight.T
    if matrix.ndim != 2 or matrix.shape != (len(s), channels):
        return np.full(channels, float((weight**2).sum()) * float(s.mean()) / channels)
    return np.asarray(s @ matrix**2)
