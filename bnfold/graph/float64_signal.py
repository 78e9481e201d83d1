"""The short-time Fourier transform in float64; ONNX's evaluator takes one frame after the other, and fails on none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx.reference.op_run import OpRun

__all__ = ["SIGNAL"]

REAL = 2  # axes of a signal without one for real and imaginary parts

if TYPE_CHECKING:
    Array = np.ndarray


class STFT(OpRun):
    """X[b, f, k] = sum_n w[n] x[b, f step + n] exp(-2 pi i k n / L), real and imaginary part on the last axis.

    x (batch, length), (batch, length, 1), or 2 for complex numbers; L is `frame_length`, else the length of the window,
    else that of x; k < L / 2 + 1 where `onesided`. There are 1 + (length - L) // step frames, none where x is shorter
    than one.
    Source: https://onnx.ai/onnx/operators/onnx__STFT.html
    """

    def _run(
        self,
        x: Array,
        frame_step: Array,
        window: Array | None = None,
        frame_length: Array | None = None,
        **attributes: Any,
    ) -> tuple[Array]:
        step = int(np.reshape(frame_step, ()))
        length = x.shape[1] if window is None else window.shape[0]
        length = length if frame_length is None else int(np.reshape(frame_length, ()))
        weights = np.ones(length) if window is None else window
        n_frames = max(0, 1 + (x.shape[1] - length) // step)
        at = step * np.arange(n_frames)[:, None] + np.arange(weights.shape[0])
        is_real = x.ndim == REAL or x.shape[-1] == 1
        signal = x.reshape(x.shape[:2]) if is_real else x[..., 0] + 1j * x[..., 1]
        frames = signal[:, at] * weights
        one_sided = attributes.get("onesided", 1) and is_real
        spectrum = np.fft.rfft(frames, length) if one_sided else np.fft.fft(frames, length)
        return (np.stack([spectrum.real, spectrum.imag], axis=-1).astype(x.dtype),)


SIGNAL: tuple[type[OpRun], ...] = (STFT,)
