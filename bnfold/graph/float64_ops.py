"""ONNX operators in NumPy for the float64 evaluation.

The reference evaluator of ONNX defines the meaning; these replace the operators that are loops over elements there
(poolings, and the convolutions of `float64_convolution`), that compute in float32 (Erf, Gelu, GroupNormalization,
HardSwish) or that take batch statistics (BatchNormalization of opset 9 to 13); `bnfold.graph.float64_operators` has the
others. Shapes and attributes are those of https://onnx.ai/onnx/operators/ (N, C, spatial axes).
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_max_pool import MaxPool as OnnxMaxPool

from bnfold.graph.float64_convolution import Conv, ConvTranspose
from bnfold.graph.float64_resize import Resize, Upsample
from bnfold.graph.float64_windows import Windows, spatial

__all__ = ["OPERATORS"]

Array = np.ndarray


class MaxPool(OpRun):
    """The largest cell of each window; with indices asked for, ONNX's own implementation."""

    def _run(self, x: Array, **attributes: Any) -> tuple[Array, ...]:
        if len(self.onnx_node.output) > 1:
            original: Any = OnnxMaxPool(self.onnx_node, self.run_params)
            outputs: tuple[Array, ...] = original._run(x, **attributes)
            return outputs
        windows = Windows(x.shape[2:], attributes["kernel_shape"], **attributes)
        padded = windows.padded(x, -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min)
        taps = np.ndindex(*windows.kernel)
        return (functools.reduce(np.maximum, (spatial(padded, windows.read(tap)) for tap in taps)),)


class AveragePool(OpRun):
    """The mean of each window, over its cells, or its cells and its explicit padding."""

    def _run(self, x: Array, **attributes: Any) -> tuple[Array]:
        windows = Windows(x.shape[2:], attributes["kernel_shape"], **attributes)
        padded = windows.padded(x, 0.0)
        counted = 1.0 if attributes.get("count_include_pad") else 0.0
        cells = windows.padded(np.ones(x.shape[2:]), counted, overflow_fill=0.0)
        total = np.zeros((*x.shape[:2], *windows.out))
        n_cells = np.zeros(windows.out)
        for tap in np.ndindex(*windows.kernel):
            total += spatial(padded, windows.read(tap))
            n_cells += spatial(cells, windows.read(tap))
        return (total / n_cells,)


class BatchNormalization(OpRun):
    """y = (x - mean) scale / sqrt(var + epsilon) + bias, epsilon as the node stores it.

    Parameters are one per channel or, with spatial=0 (opset 8 and earlier), one per element of a row.
    """

    def _run(self, x: Array, scale: Array, bias: Array, mean: Array, var: Array, **attributes: Any) -> tuple[Array]:
        shape = (-1, *(1,) * (x.ndim - 2)) if attributes.get("spatial", 1) else scale.shape
        gain = scale / np.sqrt(var + attributes["epsilon"])
        return ((x - mean.reshape(shape)) * gain.reshape(shape) + bias.reshape(shape),)


class GroupNormalization(OpRun):
    """Normalised over the channels of a group and space; scale and bias per group (opset 18) or channel (21)."""

    def _run(self, x: Array, scale: Array, bias: Array, **attributes: Any) -> tuple[Array]:
        groups = attributes["num_groups"]
        grouped = x.reshape(x.shape[0], groups, -1)
        centred = grouped - grouped.mean(axis=2, keepdims=True)
        y = centred / np.sqrt((centred**2).mean(axis=2, keepdims=True) + attributes["epsilon"])
        per_channel = (np.repeat(p, x.shape[1] // p.size).reshape(-1, *(1,) * (x.ndim - 2)) for p in (scale, bias))
        gain, offset = per_channel
        return (y.reshape(x.shape) * gain + offset,)


class Erf(OpRun):
    """The error function, by SciPy."""

    def _run(self, x: Array) -> tuple[Array]:
        from scipy.special import erf

        return (np.asarray(erf(x)),)


class Gelu(OpRun):
    """x Phi(x), or its tanh approximation; ONNX's function body holds its constants in float32."""

    def _run(self, x: Array, approximate: str | None = None) -> tuple[Array]:
        from scipy.special import ndtr

        if approximate == "tanh":
            return (0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))),)
        return (x * np.asarray(ndtr(x)),)


class HardSwish(OpRun):
    """x max(0, min(1, x / 6 + 1 / 2)); ONNX's function body holds 1 / 6 in float32."""

    def _run(self, x: Array) -> tuple[Array]:
        return (x * np.clip(x / 6.0 + 0.5, 0.0, 1.0),)


OPERATORS: tuple[type[OpRun], ...] = (
    AveragePool,
    BatchNormalization,
    Conv,
    ConvTranspose,
    Erf,
    Gelu,
    GroupNormalization,
    HardSwish,
    MaxPool,
    Resize,
    Upsample,
)
