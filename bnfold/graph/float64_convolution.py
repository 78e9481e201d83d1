"""Convolutions of the float64 evaluation: a sum over the taps of the kernel, each one matrix product.

    y[n, m, p] = b[m] + sum_t W[m, :, t] @ x[n, :, s p + d t - pad]

Shapes and attributes are those of ONNX Conv and ConvTranspose: https://onnx.ai/onnx/operators/ (N, C, spatial axes).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx.reference.op_run import OpRun

from bnfold.graph.float64_windows import Windows, halves, spatial

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Conv", "ConvTranspose"]

Array = np.ndarray
FEW_CHANNELS = 32  # of a group, below which a convolution is one product for all taps of its kernel
COLUMNS = 1 << 22  # cells that are gathered for it at a time: 32 MiB


class Conv(OpRun):
    """Grouped, strided, dilated convolution of any rank."""

    def _run(self, x: Array, w: Array, b: Array | None = None, **attributes: Any) -> tuple[Array]:
        groups = attributes.get("group") or 1
        windows = Windows(x.shape[2:], w.shape[2:], **attributes)
        n, c = x.shape[:2]
        m, c_group = w.shape[:2]
        padded = windows.padded(x, 0.0)
        padded = padded.reshape(n, groups, c // groups, *padded.shape[2:])
        weight = w.reshape(groups, m // groups, c_group, *w.shape[2:])
        sums = _by_column if c_group < FEW_CHANNELS and m > groups and math.prod(windows.kernel) > 1 else _by_tap
        y = sums(padded, weight, windows).reshape(n, m, *windows.out)
        return (y if b is None else y + b.reshape(-1, *(1,) * (x.ndim - 2)),)


def _by_tap(padded: Array, weight: Array, windows: Windows) -> Array:
    """The sums of a convolution, (N, groups, M / groups, positions): one product for each tap."""
    n, groups, c_group = padded.shape[:3]
    y = np.zeros((n, groups, weight.shape[1], math.prod(windows.out)))
    for tap in np.ndindex(*windows.kernel):
        cells = spatial(padded, windows.read(tap)).reshape(n, groups, c_group, -1)
        taken = spatial(weight, tap)
        y += taken * cells if c_group == 1 else taken @ cells
    return y


def _by_column(padded: Array, weight: Array, windows: Windows) -> Array:
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
            columns[:, :, :, k] = spatial(padded, windows.read(tap, start, size[0]))
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
            taken = np.swapaxes(spatial(weight, tap), 1, 2)
            spatial(y, place)[...] += (taken @ cells).reshape(n, groups, w.shape[1], *size)
        y = y.reshape(n, -1, *full)
        y = spatial(y, (slice(begin, length - end) for (begin, end), length in zip(pads, full, strict=True)))
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
        return [halves(f - o, upper=auto_pad == "SAME_UPPER") for f, o in zip(full, wanted, strict=True)]
    flat = (attributes.get("pads") if auto_pad == "NOTSET" else None) or (0,) * (2 * len(full))
    return [(flat[i], flat[len(full) + i]) for i in range(len(full))]
