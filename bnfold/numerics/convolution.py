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
    def macs(self) -> int:
        """Multiply-adds per output position; those of an identity or a scale are none."""
        pointwise = all(k == 1 for k in self.kernel) and self.group == self.weight.shape[0]
        return 0 if pointwise else self.weight.size

    @property
    def pads(self) -> tuple[int, ...]:
        """Leading, then trailing padding of each spatial axis, as ONNX writes it."""
        last = [f + d * (k - 1) for f, d, k in zip(self.first, self.dilations, self.kernel, strict=True)]
        return (*(-f for f in self.first), *(s + e for s, e in zip(self.slack, last, strict=True)))

    def scaled(self, scale: Float64, shift: Float64) -> Convolution:
        """`scale y + shift`, both of shape (M,)."""
        column = scale.reshape(-1, *[1] * (self.weight.ndim - 1))
        return replace(self, weight=self.weight * column, bias=self.bias * scale + shift)

    def adds_to(self, other: Convolution) -> bool:
        """Whether the sum with `other` is one convolution: the same outputs at the same positions."""
        return (
            self.strides == other.strides
            and self.weight.shape[0] == other.weight.shape[0]
            and self.weight.shape[1] * self.group == other.weight.shape[1] * other.group
            and (self.slack == other.slack or any(s > 1 for s in self.strides))
        )

    def __add__(self, other: Convolution) -> Convolution:
        """The convolution that computes the sum; `adds_to` must hold."""
        first, dilations, kernel = [], [], []
        for a, b in zip(self._taps(), other._taps(), strict=True):
            # Position 0 is a tap of the sum where both kernels start behind it: padding cannot be negative.
            taps = sorted({*a, *b, *([0] if min(*a, *b) > 0 else [])})
            step = math.gcd(*(t - taps[0] for t in taps)) or 1
            first.append(taps[0])
            dilations.append(step)
            kernel.append((taps[-1] - taps[0]) // step + 1)
        group = math.gcd(self.group, other.group)
        frame = replace(self, first=tuple(first), dilations=tuple(dilations), group=group)
        weight = self._spread(frame, tuple(kernel)) + other._spread(frame, tuple(kernel))
        return replace(frame, weight=weight, bias=self.bias + other.bias)

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
