"""The integer weights and biases that follow from folded weights, recorded ranges, units and corrections.

s_w = t max_c |w| / n      q_w = round(w / s_w)      q_b = round((b + correction) / (s s_w))

t of 1, 1.005 ... 1.15 is where an output channel of at most 512 weights has the least error, squares of weights and
three times those of the sums over taps; else it is 1, and per tensor.
Of convolutions, integers that were rounded furthest are rounded the other way, as many as bring the sum over the taps
of a channel within 1/2 of the exact one.
Where moments H of the inputs are recorded, integers are those of GPTQ (Frantar et al. 2022): inputs in the order of
falling H_kk; what a rounding leaves is spread over the weights behind it, by the Cholesky factor of the inverse of H.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from onnx import NodeProto

    from bnfold.records.certificate import Exact
    from bnfold.records.recipes import IntegerNode, Recipe

__all__ = ["SMALLEST_SCALE", "ExpectedLayer", "ExpectedParameters", "even"]

SMALLEST_SCALE = 2.0**-102
_BIAS_STEPS = 2.0**30
_FEW = 512
_AT_ONCE = 96
_FINE = 2.0**20


@dataclasses.dataclass(frozen=True)
class ExpectedLayer:
    """Integers of a layer and their scales, those of the bias None where it has none of its own."""

    weight: np.ndarray
    scales: np.ndarray
    bias: np.ndarray | None
    bias_scales: np.ndarray


class ExpectedParameters:
    """The integer parameters of layers.

    Args:
        source: the nodes of the folded graph by name.
        constants: its initializers by name.
        readers: the nodes that read each of its values, by name.
        recipe: what the file was made with.
        digits: float64 digits of initializers by name; one without is what is stored.
    """

    def __init__(
        self,
        source: Mapping[str, NodeProto],
        constants: Mapping[str, np.ndarray],
        readers: Mapping[str, Sequence[NodeProto]],
        recipe: Recipe,
        digits: Mapping[str, Exact],
    ) -> None:
        self._digits = digits
        self._source, self._constants, self._readers, self._recipe = source, constants, readers, recipe
        self._plans = {plan.name: plan for plan in recipe.nodes}

    def of_layer(self, plan: IntegerNode, s: float) -> ExpectedLayer:
        """The parameters of a layer that reads a value of scale `s`."""
        source = self._source[plan.name]
        axis = self.channel_axis(source)
        w = self.in_units(source, self.exact(source.input[1]), axis)
        rows = np.moveaxis(w, axis, 0).reshape(w.shape[axis], -1)
        bias = self.bias(source, plan)
        limit = float(self._recipe.weight_limit)
        peaks = np.array([np.abs(row).max() if row.size else 0.0 for row in rows]) / limit
        if bias is not None:
            peaks = np.maximum(peaks, np.abs(bias) / (s * _BIAS_STEPS))
        if self._recipe.weights == "per-tensor":
            peaks = np.array(max(float(peaks.max()), SMALLEST_SCALE) if peaks.max() > 0 else 1.0)
        else:
            peaks = np.where(peaks > 0, np.maximum(peaks, SMALLEST_SCALE), 1.0)
        taps = math.prod(w.shape[2:]) if source.op_type == "Conv" else 1
        scales, integers = _of_least_error(rows, peaks.astype(np.float32), taps, limit)
        moments = self._recipe.moments.get(plan.name)
        if moments is not None:
            integers = _spread(rows, scales, limit, moments.astype(np.float64))
        integers = integers.reshape(np.moveaxis(w, axis, 0).shape)
        product = (np.float32(s) * scales.astype(np.float32)).astype(np.float64)
        return ExpectedLayer(
            weight=np.moveaxis(integers, 0, axis),
            scales=scales,
            bias=None if bias is None else even(bias / (s * scales)),
            bias_scales=product,
        )

    def exact(self, name: str) -> np.ndarray:
        """The float64 digits of an initializer."""
        stored = self._constants[name]
        own = self._digits.get(name)
        return stored.astype(np.float64) if own is None else np.asarray(own(stored), np.float64)

    def misstored(self) -> list[str]:
        """The initializers that are no rounding of their digits."""
        found = []
        for name in sorted(set(self._digits) & set(self._constants)):
            stored, exact = self._constants[name], self.exact(name)
            with np.errstate(over="ignore"):
                rounded = exact.astype(stored.dtype) if exact.shape == stored.shape else None
            if rounded is None or not np.array_equal(rounded, stored, equal_nan=True):
                found.append(name)
        return found

    def bias(self, source: NodeProto, plan: IntegerNode) -> np.ndarray | None:
        """The float bias and its correction; None for a MatMul, whose bias is an operator of its own."""
        if source.op_type == "MatMul":
            if plan.op == "MatMul":
                return None
            add = self._readers[source.output[0]][0]
            name = next(name for name in add.input if name != source.output[0])
        else:
            name = source.input[2] if len(source.input) > 2 else ""
        channels = self._constants[source.input[1]].shape[self.channel_axis(source)]
        bias = self.exact(name) if name else np.zeros(channels)
        written = self._recipe.gauge.get(self.written(source))
        if written is not None:
            bias = bias * written
        return bias + self._recipe.corrections.get(plan.name, 0.0)

    def written(self, source: NodeProto) -> str:
        """What a layer writes in the graph that was quantised: behind its bias, where a MatMul became a Gemm."""
        plan = self._plans.get(source.name)
        if source.op_type == "MatMul" and plan is not None and plan.op == "Gemm":
            return str(self._readers[source.output[0]][0].output[0])
        return str(source.output[0])

    def in_units(self, source: NodeProto, w: np.ndarray, axis: int) -> np.ndarray:
        """W' = a_y W / a_x."""
        name = source.input[0]
        read = self._recipe.gauge.get(name, self._recipe.pixels.get(name))
        return _in_units(w, axis, read, self._recipe.gauge.get(self.written(source)))

    def in_float(self, source: NodeProto, w: np.ndarray, axis: int) -> np.ndarray:
        """The same of a layer that stayed float, in float32: those of pixels are stored before others are chosen."""
        name = source.input[0]
        read = self._recipe.gauge.get(name)
        if read is None and name in self._recipe.pixels:
            w = _in_units(w, axis, self._recipe.pixels[name], None).astype(np.float32).astype(np.float64)
        return _in_units(w, axis, read, self._recipe.gauge.get(self.written(source))).astype(np.float32)

    def channel_axis(self, source: NodeProto) -> int:
        """The axis of a weight that counts the output channels."""
        if source.op_type == "Conv":
            return 0
        transposed = any(attribute.name == "transB" and attribute.i for attribute in source.attribute)
        return 0 if transposed else 1


def _in_units(w: np.ndarray, axis: int, read: np.ndarray | None, written: np.ndarray | None) -> np.ndarray:
    """W' = a_y W / a_x of a weight whose rows lie on an axis."""
    if (read is None or (read == 1).all()) and written is None:
        return w
    rows = np.moveaxis(w, axis, 0).copy()
    m, per_group = rows.shape[:2]
    if written is not None:
        rows *= written.reshape(-1, *(1,) * (rows.ndim - 1))
    if read is not None:
        groups = read.reshape(-1, per_group)
        own = groups[np.arange(m) // (m // len(groups))]
        rows *= (1 / own).reshape(m, per_group, *(1,) * (rows.ndim - 2))
    return np.moveaxis(rows, 0, axis)


def _of_least_error(rows: np.ndarray, peaks: np.ndarray, taps: int, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """Scales of output channels, and integers (M, weights of one)."""
    tries = 31 if peaks.ndim and rows.shape[1] <= _FEW else 1
    found: list[tuple[np.ndarray, np.ndarray]] = []
    errors = []
    for number in range(tries):
        scales = np.float32(peaks.astype(np.float64) * (1 + number / 200)).astype(np.float64)
        steps = scales.reshape(-1, 1)
        integers = np.clip(_rounded((rows / steps).reshape(-1, taps)).reshape(rows.shape), -limit, limit)
        off = integers * steps - rows
        sums = off.reshape(len(rows), -1, taps).sum(axis=2)
        errors.append(np.einsum("mk,mk->m", off, off) + 3 * np.einsum("mc,mc->m", sums, sums))
        found.append((np.asarray(scales), np.asarray(integers)))
    if tries == 1:
        return found[0]
    least = np.argmin(errors, axis=0)
    each = np.arange(len(rows))
    return np.stack([scales for scales, _ in found])[least, each], np.stack([whole for _, whole in found])[least, each]


def _rounded(exact: np.ndarray) -> np.ndarray:
    """Integers whose sums over rows lie next to the exact ones, (channels, taps): one after another steps back."""
    found = even(exact)
    off = found - exact
    left = even(off.sum(axis=1))
    sign = np.sign(left)
    off *= sign[:, None]
    while left.any():
        rows = np.flatnonzero(left)
        furthest = off[rows].argmax(axis=1)
        found[rows, furthest] -= sign[rows]
        off[rows, furthest] = -np.inf
        left[rows] -= sign[rows]
    return found


def _spread(rows: np.ndarray, steps: np.ndarray, limit: float, h: np.ndarray) -> np.ndarray:
    """Integers (M, K) by moments (K, K), one input after another; what is left of each goes to those behind."""
    powers = h.diagonal()
    order = sorted(range(len(h)), key=lambda k: (powers[k], k), reverse=True)
    factor = np.linalg.cholesky(np.linalg.inv(h[order][:, order])).T
    left = rows[:, order]
    integers = np.zeros_like(left)
    for start in range(0, len(h), _AT_ONCE):
        stop = min(start + _AT_ONCE, len(h))
        errors = np.zeros((len(rows), stop - start))
        for k in range(start, stop):
            near = even(left[:, k] / steps * _FINE) / _FINE  # a half but for what was lost on the way is a half
            integers[:, k] = np.clip(even(near), -limit, limit)
            errors[:, k - start] = (left[:, k] - integers[:, k] * steps) / factor[k, k]
            left[:, k + 1 : stop] -= np.multiply.outer(errors[:, k - start], factor[k, k + 1 : stop])
        left[:, stop:] -= errors @ factor[start:stop, stop:]
    return integers[:, np.argsort(order)]


def even(x: np.ndarray | float) -> np.ndarray:
    """The nearest whole number, halves to even."""
    below = np.floor(x)
    rest = np.asarray(x - below)
    up = (rest > 0.5) | ((rest == 0.5) & (np.mod(below, 2) == 1))
    return np.asarray(below + up)
