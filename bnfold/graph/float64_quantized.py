"""Quantised operators: integers as they are, everything else in float64.

    quantise     q = saturate(round(x / s) + z),        round half to even
    dequantise   x = (q - z) s

Meanings are those of https://onnx.ai/onnx/operators/. Sums of products of integers are exact in float64, as they are in
int32. What float32 rounds is the quotient in front of `round`: an execution may lie one step
from this evaluation where the quotient lies at a half, and so may another execution.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from onnx.reference.op_run import OpRun

from bnfold.graph.float64_convolution import Conv

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "QUANTIZED",
    "DequantizeLinear",
    "QuantizeLinear",
    "by_columns",
    "by_rows",
    "centred_on",
    "dynamic_scale",
    "integers",
    "quantized",
    "requantized",
]

Array = np.ndarray


def along(values: Array, rank: int, axis: int) -> Array:
    """A number, or one for each place along an axis, to be combined with an array of that rank, in float64."""
    wide = np.asarray(values).astype(np.float64)
    return wide.reshape(()) if wide.size == 1 else wide.reshape(-1, *(1,) * (rank - 1 - axis % rank))


def saturated(x: Array, dtype: Any) -> Array:
    """Whole numbers in an integer type, the nearest that it has."""
    limits: Any = ml_dtypes.iinfo(dtype)  # type: ignore[no-untyped-call]
    return np.asarray(np.clip(x, int(limits.min), int(limits.max))).astype(dtype)


def quantized(x: Array, scale: Array, zero_point: Array, dtype: Any) -> Array:
    """saturate(round(x / scale) + zero_point)."""
    return saturated(np.rint(x / scale) + zero_point, dtype)


def centred_on(q: Array, zero_point: Array | None, axis: int = 0) -> Array:
    wide = q.astype(np.float64)
    return wide if zero_point is None else wide - along(zero_point, q.ndim, axis)


def _spread(values: Array, x: Array, axis: int, block_size: int) -> Array:
    """One number for each place along `axis`, or for each block of them."""
    if np.ndim(values) <= 1:
        return along(values, x.ndim, axis)
    wide = np.repeat(np.asarray(values).astype(np.float64), block_size, axis)
    return np.asarray(wide[tuple(slice(n) for n in x.shape)])


class DequantizeLinear(OpRun):
    """y = (x - zero_point) scale, both a number, one for each place along `axis`, or one for a block of them.

    The evaluator has it from opset 19 on, and subtracts in float32.
    """

    def _run(
        self, x: Array, scale: Array, zero_point: Array | None = None, *, axis: int = 1, block_size: int = 0, **_: Any
    ) -> tuple[Array]:
        wide = x.astype(np.float64)
        centred = wide if zero_point is None else wide - _spread(zero_point, x, axis, block_size)
        return (centred * _spread(scale, x, axis, block_size),)


class QuantizeLinear(OpRun):
    """saturate(round(x / scale) + zero_point), in the type of the zero point or of `output_dtype`, else uint8.

    The evaluator rounds to int32 before it saturates.
    """

    def _run(
        self,
        x: Array,
        scale: Array,
        zero_point: Array | None = None,
        *,
        axis: int = 1,
        block_size: int = 0,
        output_dtype: int = 0,
        **_: Any,
    ) -> tuple[Array]:
        from onnx.helper import tensor_dtype_to_np_dtype

        stated = np.dtype(np.uint8) if not output_dtype else tensor_dtype_to_np_dtype(output_dtype)
        dtype = stated if zero_point is None else zero_point.dtype
        zero = np.zeros(()) if zero_point is None else _spread(zero_point, x, axis, block_size)
        return (quantized(x, _spread(scale, x, axis, block_size), zero, dtype),)


def dynamic_scale(x: Array) -> tuple[float, float]:
    """Scale and zero point of uint8 for the range of the values and 0."""
    low, high = min(float(x.min(initial=0.0)), 0.0), max(float(x.max(initial=0.0)), 0.0)
    scale = (high - low) / 255 if high > low else 1.0
    return scale, float(np.rint(np.clip(-low / scale, 0, 255)))


class DynamicQuantizeLinear(OpRun):
    """uint8, the scale from the range of x and 0."""

    def _run(self, x: Array) -> tuple[Array, Array, Array]:
        scale, zero = dynamic_scale(x)
        y = quantized(x, np.asarray(scale), np.asarray(zero), np.uint8)
        return y, np.asarray(scale), np.asarray(zero, np.uint8)


class ConvInteger(OpRun):
    """The convolution of x - x_zero_point and w - w_zero_point, in int32."""

    def _run(
        self, x: Array, w: Array, x_zero: Array | None = None, w_zero: Array | None = None, **attributes: Any
    ) -> tuple[Array]:
        return (_convolved(self, centred_on(x, x_zero), centred_on(w, w_zero), None, attributes).astype(np.int32),)


def _convolved(op: OpRun, x: Array, w: Array, b: Array | None, attributes: dict[str, Any]) -> Array:
    run: Callable[..., tuple[Array]] = Conv._run
    wide = None if b is None else b.astype(np.float64)
    return run(op, x, w, wide, **attributes)[0]


def by_columns(zero_point: Array | None, q: Array) -> Array | None:
    """A zero point of the right operand of a product, one for each of its columns."""
    is_row = zero_point is not None and zero_point.ndim == 1 and zero_point.size > 1 and q.ndim > 1
    return zero_point.reshape(1, -1) if is_row and zero_point is not None else zero_point


def by_rows(zero_point: Array | None, q: Array) -> Array | None:
    """A zero point of the left operand of a product, one for each of its rows."""
    is_column = zero_point is not None and zero_point.ndim == 1 and zero_point.size > 1 and q.ndim > 1
    return zero_point.reshape(-1, 1) if is_column and zero_point is not None else zero_point


def integers(q: Array, zero_point: Array | None) -> Array:
    wide = q.astype(np.float64)
    return wide if zero_point is None else wide - zero_point.astype(np.float64)


class MatMulInteger(OpRun):
    """(a - a_zero_point) (b - b_zero_point) in int32; a zero point may be one for each row of a or column of b."""

    def _run(self, a: Array, b: Array, a_zero: Array | None = None, b_zero: Array | None = None) -> tuple[Array]:
        product = integers(a, by_rows(a_zero, a)) @ integers(b, by_columns(b_zero, b))
        return (np.asarray(product).astype(np.int32),)


class QLinearConv(OpRun):
    """The convolution of what two quantised operands stand for, quantised; the bias counts in x_scale w_scale."""

    def _run(
        self,
        x: Array,
        x_scale: Array,
        x_zero: Array | None,
        *rest: Array | None,
        **attributes: Any,
    ) -> tuple[Array]:
        w, w_scale, w_zero, y_scale, y_zero, b = (*rest, None)[:6]
        w, y_scale = np.asarray(w), np.asarray(y_scale)
        w_zero = None if w_zero is None else along(w_zero, w.ndim, 0)
        sums = _convolved(self, centred_on(x, x_zero), integers(w, w_zero), b, attributes)
        return (requantized(sums, x_scale * along(np.asarray(w_scale), x.ndim, 1) / y_scale, y_zero, x.dtype),)


def requantized(sums: Array, factor: Array, zero_point: Array | None, dtype: Any) -> Array:
    zero = np.zeros(()) if zero_point is None else np.asarray(zero_point)
    kind = dtype if zero_point is None else zero.dtype
    return saturated(np.rint(sums * factor) + zero.astype(np.float64), kind)


class QLinearMatMul(OpRun):
    """The product of what two quantised operands stand for, quantised."""

    def _run(self, a: Array, a_scale: Array, a_zero: Array | None, *rest: Array | None) -> tuple[Array]:
        b, b_scale, b_zero, y_scale, y_zero = (*rest, None)[:5]
        sums = integers(a, by_rows(a_zero, a)) @ integers(np.asarray(b), by_columns(b_zero, np.asarray(b)))
        return (requantized(np.asarray(sums), a_scale * np.asarray(b_scale) / np.asarray(y_scale), y_zero, a.dtype),)


QUANTIZED: tuple[type[OpRun], ...] = (
    ConvInteger,
    DequantizeLinear,
    DynamicQuantizeLinear,
    MatMulInteger,
    QLinearConv,
    QLinearMatMul,
    QuantizeLinear,
)
