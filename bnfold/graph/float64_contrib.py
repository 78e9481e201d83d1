"""Operators of ONNX Runtime's own domain that its optimizer and other exporters write into files, in float64.

Meanings are those of https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md. LayerNormalization
and SimplifiedLayerNormalization stand in the domain of ONNX there, at any opset.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx.reference.op_run import OpRun

from bnfold.graph.float64_convolution import Conv
from bnfold.graph.float64_ops import Gelu

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["CONTRIB"]

Array = np.ndarray


class _Contrib(OpRun):
    op_domain = "com.microsoft"


def _gelu(x: Array) -> Array:
    run: Callable[..., tuple[Array]] = Gelu._run
    return run(None, x)[0]


def _gelu_tanh(x: Array) -> Array:
    return np.asarray(0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))))


def _activated(x: Array, attributes: Mapping[str, Any]) -> Array:
    """The activation that a fused operator names, with its parameters."""
    name = attributes.get("activation") or ""
    first, second = (*(float(p) for p in attributes.get("activation_params") or ()), 0.0, 0.0)[:2]
    match name:
        case "":
            return x
        case "Relu":
            return np.asarray(np.maximum(x, 0.0))
        case "Tanh":
            return np.asarray(np.tanh(x))
        case "Sigmoid":
            return np.asarray(1 / (1 + np.exp(-x)))
        case "LeakyRelu":
            return np.where(x >= 0, x, first * x)
        case "Clip":
            return np.asarray(np.clip(x, first, second))
        case "HardSigmoid":
            return np.asarray(np.clip(first * x + second, 0.0, 1.0))
    raise ValueError(f"activation {name}")


class ContribGelu(_Contrib):
    """x Phi(x)."""

    def _run(self, x: Array, **_: Any) -> tuple[Array]:
        return (_gelu(x),)


class BiasGelu(_Contrib):
    """Gelu of x + bias."""

    def _run(self, x: Array, bias: Array) -> tuple[Array]:
        return (_gelu(x + bias),)


class FastGelu(_Contrib):
    """Gelu of x + bias in its approximation by tanh."""

    def _run(self, x: Array, bias: Array | None = None) -> tuple[Array]:
        return (_gelu_tanh(x if bias is None else x + bias),)


class QuickGelu(_Contrib):
    """x sigmoid(alpha x)."""

    def _run(self, x: Array, alpha: float = 1.702) -> tuple[Array]:
        return (x / (1 + np.exp(-float(alpha) * x)),)


class FusedConv(_Contrib):
    """act(conv(x) + z)."""

    def _run(
        self, x: Array, w: Array, b: Array | None = None, z: Array | None = None, **attributes: Any
    ) -> tuple[Array]:
        run: Callable[..., tuple[Array]] = Conv._run
        y = run(self, x, w, b, **attributes)[0]
        return (_activated(y if z is None else y + z, attributes),)


class FusedMatMul(_Contrib):
    """alpha A B; trans swaps the last two axes of an operand, transBatch moves its first axis before the last."""

    def _run(self, a: Array, b: Array, **attributes: Any) -> tuple[Array]:
        a = _transposed(a, last=attributes.get("transA", 0), batch=attributes.get("transBatchA", 0))
        b = _transposed(b, last=attributes.get("transB", 0), batch=attributes.get("transBatchB", 0))
        return (float(attributes.get("alpha", 1.0)) * (a @ b),)


def _transposed(x: Array, *, last: int, batch: int) -> Array:
    if batch:
        x = np.moveaxis(x, 0, x.ndim - 2)
    return np.swapaxes(x, -1, -2) if last and x.ndim > 1 else x


class FusedGemm(_Contrib):
    """act(alpha A' B' + beta C)."""

    def _run(self, a: Array, b: Array, c: Array | None = None, **attributes: Any) -> tuple[Array]:
        a = a.T if attributes.get("transA") else a
        b = b.T if attributes.get("transB") else b
        y = float(attributes.get("alpha", 1.0)) * (a @ b)
        y = y if c is None else y + float(attributes.get("beta", 1.0)) * c
        named = {"activation": attributes.get("activation")}
        parameters = [attributes[name] for name in ("activation_alpha", "activation_beta") if name in attributes]
        return (_activated(y, {**named, "activation_params": parameters}),)


def _normalised(x: Array, axis: int, epsilon: float, *, centred: bool) -> tuple[Array, Array, Array]:
    axes = tuple(range(axis % x.ndim, x.ndim))
    mean = x.mean(axis=axes, keepdims=True) if centred else np.zeros((1,) * x.ndim)
    inverse = 1 / np.sqrt(((x - mean) ** 2).mean(axis=axes, keepdims=True) + float(epsilon))
    return (x - mean) * inverse, mean, inverse


class LayerNormalization(OpRun):
    """(x - mean) / sqrt(var + epsilon) scale + bias over the axes from `axis` on."""

    def _run(
        self, x: Array, scale: Array, bias: Array | None = None, axis: int = -1, epsilon: float = 1e-5, **_: Any
    ) -> tuple[Array, ...]:
        y, mean, inverse = _normalised(x, axis, epsilon, centred=True)
        y = y * scale
        return (y if bias is None else y + bias, mean, inverse)[: len(self.onnx_node.output)]


class SimplifiedLayerNormalization(OpRun):
    """x / sqrt(mean x^2 + epsilon) scale."""

    def _run(self, x: Array, scale: Array, axis: int = -1, epsilon: float = 1e-5, **_: Any) -> tuple[Array, ...]:
        y, _mean, inverse = _normalised(x, axis, epsilon, centred=False)
        return (y * scale, inverse)[: len(self.onnx_node.output)]


class SkipLayerNormalization(_Contrib):
    """LayerNormalization of x + skip + bias; the sum is the fourth output."""

    def _run(
        self, x: Array, skip: Array, gamma: Array, *optional: Array | None, epsilon: float = 1e-12
    ) -> tuple[Array, ...]:
        beta, bias = (*optional, None, None)[:2]
        total = x + skip if bias is None else x + skip + bias
        y, mean, inverse = _normalised(total, -1, epsilon, centred=True)
        y = y * gamma
        return (y if beta is None else y + beta, mean, inverse, total)[: len(self.onnx_node.output)]


ContribGelu.__name__ = "Gelu"

CONTRIB: tuple[type[OpRun], ...] = (
    BiasGelu,
    ContribGelu,
    FastGelu,
    FusedConv,
    FusedGemm,
    FusedMatMul,
    LayerNormalization,
    QuickGelu,
    SimplifiedLayerNormalization,
    SkipLayerNormalization,
)
