"""The short-time Fourier transform against ONNX Runtime, and where there is no frame."""

from __future__ import annotations

import numpy as np
import pytest
from one_node import assert_close, one_node

from bnfold.graph.float64 import evaluate

WINDOW = np.hanning(16).astype(np.float32)


@pytest.mark.parametrize("shape", [(2, 61), (2, 61, 1)])
@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("window", [WINDOW, None])
def test_stft(onesided: int, window: np.ndarray | None, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    inputs = [x, np.int64(5), window, np.int64(16)]
    assert_close(one_node("STFT", inputs, onesided=onesided), x, 200)


def test_a_signal_shorter_than_a_frame_has_none() -> None:
    x = np.zeros((2, 7, 1), np.float32)
    (y,) = evaluate(one_node("STFT", [x, np.int64(5), WINDOW, np.int64(16)]), {"x": x}).values()
    assert y.shape == (2, 0, 9, 2)
