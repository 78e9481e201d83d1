"""Sums of convolutions of one tensor, as one convolution."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from bnfold.numerics.affine import Float64

__all__ = ["Convolution"]


@dataclass(frozen=True)
class Convolution:
    """y[m, o] = bias[m] + sum over c, j of weight[m, c, j] x[c, strides o + first + dilations j], zeros outside x.

    `weight` has shape (M, C / group, kernel...), `bias` (M,). Per spatial axis: `first` is the position of the first
    tap (minus the leading padding), `slack` = leading + trailing padding - (kernel - 1) dilation, which with the stride
    fixes the output length. Source: ONNX operator Conv.
    """

    weight: Float64
    bias: Float64
    first: tuple[int, ...]
    slack: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    group: int

    @classmethod
    def identity(cls, channels: int, spatial_rank: int) -> Convolution:
        """y = x: a Dirac kernel per channel."""
        ones, zeros = (1,) * spatial_rank, (0,) * spatial_rank
        return cls(np.ones((channels, 1, *ones)), np.zeros(channels), zeros, zeros, ones, ones, channels)

    @property
    def kernel(self) -> tuple[int, ...]:
        """The lengths of the kernel's spatial axes."""
        return self.weight.shape[2:]

    @property
    def is_scale(self) -> bool:
        """Whether it is y = s x + t, with one s and t per channel."""
        in_place = not any(self.first) and not any(self.slack) and all(s == 1 for s in self.strides)
        return in_place and all(k == 1 for k in self.kernel) and self.weight.shape[:2] == (self.group, 1)

    @property
    def macs(self) -> int:
        """Multiply-adds per output position; those of an identity or a scale are none."""
        return 0 if self.is_scale else self.weight.size

    def macs_of_sum(self, other: Convolution) -> int:
        """Multiply-adds per output position of `self + other`, without computing it; `adds_to` must hold."""
        if self.is_scale and other.is_scale:
            return 0
        _, _, kernel, group = self._joint(other)
        outputs, per_group = self.weight.shape[:2]
        return int(outputs * (per_group * self.group // group) * math.prod(kernel))

    @property
    def pads(self) -> tuple[int, ...]:
        """Leading, then trailing padding of each spatial axis, as ONNX writes it."""
        last = [f + d * (k - 1) for f, d, k in zip(self.first, self.dilations, self.kernel, strict=True)]
        return (*(-f for f in self.first), *(s + e for s, e in zip(self.slack, last, strict=True)))

    def scaled(self, scale: Float64, shift: Float64) -> Convolution:
        """`scale y + shift`, both of shape (M,)."""
        column = scale.reshape(-1, *[1] * (self.weight.ndim - 1))
        return replace(self, weight=self.weight * column, bias=self.bias * scale + shift)

    def adds_to(self, other: Convolution, size: tuple[int | None, ...]) -> bool:
        """Whether the sum with `other` is one convolution: the same outputs at the same positions.

        `size` are the lengths of the spatial axes of x, None where unknown.
        """
        lengths = zip(self.lengths(size), other.lengths(size), self.slack, other.slack, strict=True)
        return (
            self.strides == other.strides
            and self.weight.shape[0] == other.weight.shape[0]
            and self.weight.shape[1] * self.group == other.weight.shape[1] * other.group
            and all(slack == its or (n is not None and n == m) for n, m, slack, its in lengths)
        )

    def lengths(self, size: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The lengths of the spatial axes of y, from those of x; None where unknown."""
        axes = zip(size, self.slack, self.strides, strict=True)
        return tuple(None if n is None else (n + slack - 1) // stride + 1 for n, slack, stride in axes)

    def __add__(self, other: Convolution) -> Convolution:
        """The convolution that computes the sum; `adds_to` must hold."""
        first, dilations, kernel, group = self._joint(other)
        frame = replace(self, first=first, dilations=dilations, group=group)
        weight = self._spread(frame, kernel) + other._spread(frame, kernel)
        return replace(frame, weight=weight, bias=self.bias + other.bias)

    def _joint(self, other: Convolution) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]:
        """First taps, dilations, kernel and group of the sum: the smallest that hold every tap of both."""
        first, dilations, kernel = [], [], []
        for a, b in zip(self._taps(), other._taps(), strict=True):
            # Position 0 is a tap of the sum where both kernels start behind it: padding cannot be negative.
            taps = sorted({*a, *b, *([0] if min(*a, *b) > 0 else [])})
            step = math.gcd(*(t - taps[0] for t in taps)) or 1
            first.append(taps[0])
            dilations.append(step)
            kernel.append((taps[-1] - taps[0]) // step + 1)
        return tuple(first), tuple(dilations), tuple(kernel), math.gcd(self.group, other.group)

    def _taps(self) -> list[list[int]]:
        return [[f + d * j for j in range(k)] for f, d, k in zip(self.first, self.dilations, self.kernel, strict=True)]

    def _spread(self, frame: Convolution, kernel: tuple[int, ...]) -> Float64:
        """The weight in the positions and groups of `frame`."""
        outputs, per_group = self.weight.shape[:2]
        ratio = self.group // frame.group
        spread = np.zeros((outputs, per_group * ratio, *kernel))
        taps = []
        for k, f, d, origin, step in zip(
            self.kernel, self.first, self.dilations, frame.first, frame.dilations, strict=True
        ):
            start, stride = (f - origin) // step, d // step
            taps.append(slice(start, start + stride * (k - 1) + 1, max(stride, 1)))
        per_old_group = outputs // self.group
        for q in range(ratio):
            rows = [m for m in range(outputs) if (m // per_old_group) % ratio == q]
            block = np.zeros((len(rows), per_group, *kernel))
            block[:, :, *taps] = self.weight[rows]
            spread[rows, q * per_group : (q + 1) * per_group] = block
        return spread
