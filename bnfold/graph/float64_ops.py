"""ONNX operators in NumPy for the float64 evaluation.

The reference evaluator of ONNX defines the meaning; these replace the operators that are loops over elements there
(Conv, ConvTranspose, pooling), that compute in float32 (Erf, Gelu, GroupNormalization, HardSwish) or that take batch
statistics (BatchNormalization of opset 9 to 13); `bnfold.graph.float64_operators` has the others. A convolution is a
sum over the taps of the kernel, each one matrix product:

    y[n, m, p] = b[m] + sum_t W[m, :, t] @ x[n, :, s p + d t - pad]

Shapes and attributes are those of https://onnx.ai/onnx/operators/ (N, C, spatial axes).
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_max_pool import MaxPool as OnnxMaxPool

from bnfold.graph.float64_resize import Resize, Upsample

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["OPERATORS"]

Array = np.ndarray
FEW_CHANNELS = 32  # of a group, below which a convolution is one product for all taps of its kernel
COLUMNS = 1 << 22  # cells that are gathered for it at a time: 32 MiB


def _spatial(array: Array, index: Iterable[slice | int]) -> Array:
    """`array[..., *index]`: indices of the last axes."""
    where: tuple[Any, ...] = (Ellipsis, *index)
    picked: Array = array[where]
    return picked


class _Windows:
    """Where a sliding kernel reads: padding, strides and dilations with ONNX's defaults, and the output size.

    Args:
        size: spatial lengths of the input.
        kernel: spatial lengths of the kernel.
        attributes: auto_pad, pads, strides, dilations, ceil_mode as ONNX stores them, or None.
    """

    def __init__(self, size: Sequence[int], kernel: Sequence[int], **attributes: Any) -> None:
        rank = len(kernel)
        self.kernel = tuple(kernel)
        self.strides = tuple(attributes.get("strides") or (1,) * rank)
        self.dilations = tuple(attributes.get("dilations") or (1,) * rank)
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, self.dilations, strict=True)]
        auto_pad = attributes.get("auto_pad") or "NOTSET"
        if auto_pad in {"SAME_UPPER", "SAME_LOWER"}:
            self.out = tuple(math.ceil(n / s) for n, s in zip(size, self.strides, strict=True))
            total = [
                max((o - 1) * s + r - n, 0) for o, s, r, n in zip(self.out, self.strides, reach, size, strict=True)
            ]
            self.pads = [_halves(t, upper=auto_pad == "SAME_UPPER") for t in total]
        else:
            flat = (attributes.get("pads") if auto_pad == "NOTSET" else None) or (0,) * (2 * rank)
            self.pads = [(flat[i], flat[rank + i]) for i in range(rank)]
            ceil_mode = bool(attributes.get("ceil_mode"))
            self.out = tuple(
                _n_windows(n, pad, r, s, ceil_mode=ceil_mode)
                for n, pad, r, s in zip(size, self.pads, reach, self.strides, strict=True)
            )
        needed = [(o - 1) * s + r for o, s, r in zip(self.out, self.strides, reach, strict=True)]
        self.overflow = [max(m - n - sum(pad), 0) for m, n, pad in zip(needed, size, self.pads, strict=True)]

    def padded(self, x: Array, fill: float, *, overflow_fill: float | None = None) -> Array:
        """`x` with its padding, and behind it the cells that only ceil_mode reaches."""
        lead = [(0, 0)] * (x.ndim - len(self.kernel))
        x = np.pad(x, [*lead, *self.pads], constant_values=fill)
        extra = [(0, more) for more in self.overflow]
        return np.pad(x, [*lead, *extra], constant_values=fill if overflow_fill is None else overflow_fill)

    def read(self, tap: Sequence[int], start: int = 0, length: int | None = None) -> tuple[slice, ...]:
        """The cells of the padded input that one tap of the kernel meets, one per output position.

        Of the positions along the first spatial axis, those from `start` on, `length` of them.
        """
        first, *others = (
            slice(t * d, t * d + (o - 1) * s + 1, s)
            for t, d, o, s in zip(tap, self.dilations, self.out, self.strides, strict=True)
        )
        if length is not None:
            begin = first.start + start * first.step
            first = slice(begin, begin + (length - 1) * first.step + 1, first.step)
        return (first, *others)


def _halves(total: int, *, upper: bool) -> tuple[int, int]:
    small, large = total // 2, total - total // 2
    return (small, large) if upper else (large, small)


def _n_windows(size: int, pad: tuple[int, int], reach: int, stride: int, *, ceil_mode: bool) -> int:
    """How often a window fits; with ceil_mode the last one may stick out, but must start before the end padding."""
    room = size + sum(pad) - reach
    if not ceil_mode:
        return room // stride + 1
    count = math.ceil(room / stride) + 1
    return count - 1 if (count - 1) * stride >= size + pad[0] else count


class Conv(OpRun):
    """Grouped, strided, dilated convolution of any rank."""

    def _run(self, x: Array, w: Array, b: Array | None = None, **attributes: Any) -> tuple[Array]:
        groups = attributes.get("group") or 1
        windows = _Windows(x.shape[2:], w.shape[2:], **attributes)
        n, c = x.shape[:2]
        m, c_group = w.shape[:2]
        padded = windows.padded(x, 0.0)
        padded = padded.reshape(n, groups, c // groups, *padded.shape[2:])
        weight = w.reshape(groups, m // groups, c_group, *w.shape[2:])
        sums = _by_column if c_group < FEW_CHANNELS and m > groups and math.prod(windows.kernel) > 1 else _by_tap
        y = sums(padded, weight, windows).reshape(n, m, *windows.out)
        return (y if b is None else y + b.reshape(-1, *(1,) * (x.ndim - 2)),)


def _by_tap(padded: Array, weight: Array, windows: _Windows) -> Array:
    """The sums of a convolution, (N, groups, M / groups, positions): one product for each tap."""
    n, groups, c_group = padded.shape[:3]
    y = np.zeros((n, groups, weight.shape[1], math.prod(windows.out)))
    for tap in np.ndindex(*windows.kernel):
        cells = _spatial(padded, windows.read(tap)).reshape(n, groups, c_group, -1)
        taken = _spatial(weight, tap)
        y += taken * cells if c_group == 1 else taken @ cells
    return y


def _by_column(padded: Array, weight: Array, windows: _Windows) -> Array:
    """The same: one product for all taps, over a block of positions along the first spatial axis at a time.

    The product of a tap has as many terms as there are channels in a group: where these are few, reading and adding up
    takes longer than multiplying.
    """
    n, groups, c_group = padded.shape[:3]
    per_group, taps = weight.shape[1], math.prod(windows.kernel)
    rows = weight.reshape(groups, per_group, -1)
    y = np.empty((n, groups, per_group, *windows.out))
    row = n * groups * c_group * taps * math.prod(windows.out[1:])
    step = max(1, COLUMNS // row)
    for start in range(0, windows.out[0], step):
        size = (min(step, windows.out[0] - start), *windows.out[1:])
        columns = np.empty((n, groups, c_group, taps, *size))
        for k, tap in enumerate(np.ndindex(*windows.kernel)):
            columns[:, :, :, k] = _spatial(padded, windows.read(tap, start, size[0]))
        part = rows @ columns.reshape(n, groups, c_group * taps, -1)
        y[:, :, :, start : start + size[0]] = part.reshape(n, groups, per_group, *size)
    return y


class ConvTranspose(OpRun):
    """The adjoint of a convolution: each input cell adds its kernel to the output."""

    def _run(self, x: Array, w: Array, b: Array | None = None, **attributes: Any) -> tuple[Array]:
        groups = attributes.get("group") or 1
        rank = x.ndim - 2
        n, c, *size = x.shape
        kernel = w.shape[2:]
        strides = tuple(attributes.get("strides") or (1,) * rank)
        dilations = tuple(attributes.get("dilations") or (1,) * rank)
        extra = tuple(attributes.get("output_padding") or (0,) * rank)
        full = [
            s * (i - 1) + e + (k - 1) * d + 1
            for s, i, e, k, d in zip(strides, size, extra, kernel, dilations, strict=True)
        ]
        pads = _transposed_pads(full, size, strides, attributes)
        y = np.zeros((n, groups, w.shape[1], *full))
        weight = w.reshape(groups, c // groups, *w.shape[1:])
        cells = x.reshape(n, groups, c // groups, -1)
        for tap in np.ndindex(*kernel):
            place = tuple(
                slice(t * d, t * d + (i - 1) * s + 1, s)
                for t, d, i, s in zip(tap, dilations, size, strides, strict=True)
            )
            taken = np.swapaxes(_spatial(weight, tap), 1, 2)
            _spatial(y, place)[...] += (taken @ cells).reshape(n, groups, w.shape[1], *size)
        y = y.reshape(n, -1, *full)
        y = _spatial(y, (slice(begin, length - end) for (begin, end), length in zip(pads, full, strict=True)))
        return (y if b is None else y + b.reshape(-1, *(1,) * rank),)


def _transposed_pads(
    full: Sequence[int], size: Sequence[int], strides: Sequence[int], attributes: dict[str, Any]
) -> list[tuple[int, int]]:
    """What a ConvTranspose cuts off, begin and end of each axis."""
    auto_pad = attributes.get("auto_pad") or "NOTSET"
    wanted = attributes.get("output_shape")
    if wanted is None and auto_pad in {"SAME_UPPER", "SAME_LOWER"}:
        wanted = [i * s for i, s in zip(size, strides, strict=True)]
    if wanted is not None:
        wanted = list(wanted)[-len(full) :]
        return [_halves(f - o, upper=auto_pad == "SAME_UPPER") for f, o in zip(full, wanted, strict=True)]
    flat = (attributes.get("pads") if auto_pad == "NOTSET" else None) or (0,) * (2 * len(full))
    return [(flat[i], flat[len(full) + i]) for i in range(len(full))]


class MaxPool(OpRun):
    """The largest cell of each window; with indices asked for, ONNX's own implementation."""

    def _run(self, x: Array, **attributes: Any) -> tuple[Array, ...]:
        if len(self.onnx_node.output) > 1:
            original: Any = OnnxMaxPool(self.onnx_node, self.run_params)
            outputs: tuple[Array, ...] = original._run(x, **attributes)
            return outputs
        windows = _Windows(x.shape[2:], attributes["kernel_shape"], **attributes)
        padded = windows.padded(x, -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min)
        taps = np.ndindex(*windows.kernel)
        return (functools.reduce(np.maximum, (_spatial(padded, windows.read(tap)) for tap in taps)),)


class AveragePool(OpRun):
    """The mean of each window, over its cells, or its cells and its explicit padding."""

    def _run(self, x: Array, **attributes: Any) -> tuple[Array]:
        windows = _Windows(x.shape[2:], attributes["kernel_shape"], **attributes)
        padded = windows.padded(x, 0.0)
        counted = 1.0 if attributes.get("count_include_pad") else 0.0
        cells = windows.padded(np.ones(x.shape[2:]), counted, overflow_fill=0.0)
        total = np.zeros((*x.shape[:2], *windows.out))
        n_cells = np.zeros(windows.out)
        for tap in np.ndindex(*windows.kernel):
            total += _spatial(padded, windows.read(tap))
            n_cells += _spatial(cells, windows.read(tap))
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
