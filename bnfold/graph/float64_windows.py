"""Where a sliding kernel reads: what convolutions and poolings of the float64 evaluation have in common."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Windows", "halves", "spatial"]

Array = np.ndarray


def spatial(array: Array, index: Iterable[slice | int]) -> Array:
    """`array[..., *index]`: indices of the last axes."""
    where: tuple[Any, ...] = (Ellipsis, *index)
    picked: Array = array[where]
    return picked


class Windows:
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
            self.pads = [halves(t, upper=auto_pad == "SAME_UPPER") for t in total]
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


def halves(total: int, *, upper: bool) -> tuple[int, int]:
    small, large = total // 2, total - total // 2
    return (small, large) if upper else (large, small)


def _n_windows(size: int, pad: tuple[int, int], reach: int, stride: int, *, ceil_mode: bool) -> int:
    """How often a window fits; with ceil_mode the last one may stick out, but must start before the end padding."""
    room = size + sum(pad) - reach
    if not ceil_mode:
        return room // stride + 1
    count = math.ceil(room / stride) + 1
    return count - 1 if (count - 1) * stride >= size + pad[0] else count
