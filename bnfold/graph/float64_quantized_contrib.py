"""Quantised operators of ONNX Runtime's own domain, as its quantiser writes them: integers exact, the rest in float64.

Meanings are those of https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx.reference.op_run import OpRun

from bnfold.graph.float64_ops import AveragePool
from bnfold.graph.float64_quantized import (
    DequantizeLinear,
    QuantizeLinear,
    by_columns,
    by_rows,
    centred_on,
    dynamic_scale,
    integers,
    quantized,
    requantized,
)
from bnfold.graph.float64_recurrent import activations, directions, lstm_step, run_directions

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["QUANTIZED_CONTRIB"]

Array = np.ndarray


class _Contrib(OpRun):
    """An operator of ONNX Runtime's own domain."""

    op_domain = "com.microsoft"


class ContribQuantizeLinear(_Contrib, QuantizeLinear):
    """ONNX's, in ONNX Runtime's domain."""


class ContribDequantizeLinear(_Contrib, DequantizeLinear):
    """ONNX's, in ONNX Runtime's domain."""


def _pointwise(name: str, function: Callable[..., Array]) -> type[OpRun]:
    """A quantised operator of one operand: x, x_scale, x_zero_point, y_scale, y_zero_point."""

    def _run(self: OpRun, x: Array, *rest: Array | None, **attributes: Any) -> tuple[Array]:  # noqa: ARG001
        x_scale, x_zero, y_scale, y_zero = (*rest, None)[:4]
        y = function(centred_on(x, x_zero) * x_scale, **attributes)
        return (requantized(y, 1.0 / np.asarray(y_scale), y_zero, x.dtype),)

    return type(name, (_Contrib,), {"_run": _run, "__doc__": f"{name[7:]} of a quantised operand."})


def _of_two(name: str, function: Callable[[Array, Array], Array]) -> type[OpRun]:
    """A quantised operator of two operands, each with scale and zero point."""

    def _run(self: OpRun, a: Array, a_scale: Array, a_zero: Array | None, *rest: Array | None) -> tuple[Array]:  # noqa: ARG001
        b, b_scale, b_zero, c_scale, c_zero = (*rest, None)[:5]
        y = function(centred_on(a, a_zero) * a_scale, centred_on(np.asarray(b), b_zero) * b_scale)
        return (requantized(y, 1.0 / np.asarray(c_scale), c_zero, a.dtype),)

    return type(name, (_Contrib,), {"_run": _run, "__doc__": f"{name[7:]} of two quantised operands."})


def _leaky(x: Array, alpha: float = 0.01) -> Array:
    return np.asarray(np.where(x >= 0, x, float(alpha) * x))


def _logistic(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def _pooled(x: Array, channels_last: int = 0) -> Array:
    axes = tuple(range(1, x.ndim - 1)) if channels_last else tuple(range(2, x.ndim))
    return np.asarray(x.mean(axis=axes, keepdims=True))


class QLinearAveragePool(_Contrib):
    """The mean of each window of what a quantised operand stands for, quantised."""

    def _run(self, x: Array, *rest: Array | None, channels_last: int = 0, **attributes: Any) -> tuple[Array]:
        if channels_last:
            raise ValueError("channels_last")
        x_scale, x_zero, y_scale, y_zero = (*rest, None)[:4]
        run: Callable[..., tuple[Array]] = AveragePool._run
        y = run(self, centred_on(x, x_zero) * x_scale, **attributes)[0]
        return (requantized(y, 1.0 / np.asarray(y_scale), y_zero, x.dtype),)


class QLinearConcat(_Contrib):
    """Operands in scales of their own, joined in one: y_scale, y_zero_point, then x, scale and zero point of each."""

    def _run(self, y_scale: Array, y_zero: Array, *operands: Array, axis: int) -> tuple[Array]:
        triples = zip(operands[::3], operands[1::3], operands[2::3], strict=True)
        wide = [centred_on(x, zero) * scale for x, scale, zero in triples]
        return (requantized(np.concatenate(wide, axis), 1.0 / y_scale, y_zero, y_zero.dtype),)


class QLinearSoftmax(_Contrib):
    """Softmax along `axis`, or before opset 13 along all axes from it on, of what a quantised operand stands for."""

    def _run(self, x: Array, *rest: Array | None, axis: int = -1, opset: int = 13) -> tuple[Array]:
        x_scale, x_zero, y_scale, y_zero = (*rest, None)[:4]
        axes = (axis,) if opset >= 13 else tuple(range(axis % x.ndim, x.ndim))
        wide = centred_on(x, x_zero) * x_scale
        y = np.exp(wide - wide.max(axis=axes, keepdims=True))
        y /= y.sum(axis=axes, keepdims=True)
        return (requantized(y, 1.0 / np.asarray(y_scale), y_zero, x.dtype),)


class MatMulIntegerToFloat(_Contrib):
    """(a - a_zero_point) a_scale (b - b_zero_point) b_scale + bias."""

    def _run(self, a: Array, b: Array, a_scale: Array, b_scale: Array, *optional: Array | None) -> tuple[Array]:
        a_zero, b_zero, bias = (*optional, None, None, None)[:3]
        sums = integers(a, by_rows(a_zero, a)) @ integers(b, by_columns(b_zero, b))
        y = np.asarray(sums) * (np.asarray(a_scale) * np.asarray(b_scale))
        return (y if bias is None else y + bias,)


class DynamicQuantizeMatMul(_Contrib):
    """a quantised as DynamicQuantizeLinear does, then MatMulIntegerToFloat."""

    def _run(
        self, a: Array, b: Array, b_scale: Array, b_zero: Array | None = None, bias: Array | None = None
    ) -> tuple[Array]:
        y = _dynamic_product(a, integers(b, by_columns(b_zero, b)), np.asarray(b_scale))
        return (y if bias is None else y + bias,)


def _dynamic_product(a: Array, b: Array, b_scale: Array) -> Array:
    """The product of `a`, quantised by its own range, and integers `b` around 0."""
    scale, zero = dynamic_scale(a)
    q = quantized(a, np.asarray(scale), np.asarray(zero), np.uint8)
    return np.asarray(((q.astype(np.float64) - zero) @ b) * (scale * b_scale))


class DynamicQuantizeLSTM(_Contrib):
    """An LSTM whose products are those of DynamicQuantizeMatMul: with all of x at once, with h step by step."""

    def _run(self, x: Array, w: Array, r: Array, *rest: Array | None, **attributes: Any) -> tuple[Array, ...]:
        b, lengths, h, c, p, w_scale, w_zero, r_scale, r_zero = (*rest, *(None,) * 9)[:9]
        backwards = directions(attributes.get("direction"))
        hidden = r.shape[1]
        bias = np.zeros((len(backwards), 8 * hidden)) if b is None else b
        peephole = np.zeros((len(backwards), 3 * hidden)) if p is None else p
        zeros = np.zeros((len(backwards), x.shape[1], hidden))
        functions = activations(attributes, len(backwards), ("Sigmoid", "Tanh", "Tanh"))
        scale, zero = dynamic_scale(x)
        q = (quantized(x, np.asarray(scale), np.asarray(zero), np.uint8).astype(np.float64) - zero) * scale

        def step(d: int) -> Any:
            w_d, r_d = (
                integers(m[d], None if z is None else by_columns(np.asarray(z).reshape(len(backwards), -1)[d], m[d]))
                for m, z in ((w, w_zero), (r, r_zero))
            )
            w_s, r_s = (np.asarray(s).reshape(len(backwards), -1)[d] for s in (w_scale, r_scale))
            both = bias[d][: 4 * hidden] + bias[d][4 * hidden :]

            def gates(row: Array, state: Array) -> Array:
                return np.asarray((row @ w_d) * w_s + _dynamic_product(state, r_d, r_s) + both)

            return lstm_step(gates, peephole[d], functions[d], attributes)

        states = [list(zeros if value is None else value) for value in (h, c)]
        y, finals = run_directions(q, states, [step(d) for d in range(len(backwards))], backwards, lengths)
        return (y, *finals)[: len(self.onnx_node.output)]


ContribQuantizeLinear.__name__, ContribDequantizeLinear.__name__ = "QuantizeLinear", "DequantizeLinear"

QUANTIZED_CONTRIB: tuple[type[OpRun], ...] = (
    ContribDequantizeLinear,
    ContribQuantizeLinear,
    DynamicQuantizeLSTM,
    DynamicQuantizeMatMul,
    MatMulIntegerToFloat,
    QLinearAveragePool,
    QLinearConcat,
    QLinearSoftmax,
    _of_two("QLinearAdd", np.add),
    _of_two("QLinearMul", np.multiply),
    _pointwise("QLinearGlobalAveragePool", _pooled),
    _pointwise("QLinearLeakyRelu", _leaky),
    _pointwise("QLinearSigmoid", _logistic),
)
