"""Ranges of values that are stored in integers: where steps that are shorter gain more than what is cut off loses.

    least over t, u of   n step^2 / 12 + 4 sum_x |x - clip(x, t low, u high)|^2        step = (u high - t low) / 255

over the n elements x of all samples. What is cut off counts four times, twice in amplitude: such errors all point the
same way, and samples to come reach further than those that were seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bnfold.quantisation.calibrate import values_of
from bnfold.quantisation.grids import LEVELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx_ir as ir

    from bnfold.records import InputSpec

__all__ = ["ranges_of_least_error"]

SHARES = tuple(1 - k / 20 for k in range(11))  # 1, 0.95 ... 0.5
CUT = 4.0
Range = tuple[float, float]


def ranges_of_least_error(
    model: ir.Model,
    seen: Mapping[str, Range],
    samples: Mapping[str, np.ndarray],
    inputs: Sequence[InputSpec],
    *,
    threads: int | None = None,
) -> dict[str, Range]:
    """The ranges (t low, u high), by the value's name.

    Args:
        model: the prepared float graph; unchanged.
        seen: the lowest and the highest number of each value over all samples, 0 inside.
        samples: arrays by input name, samples first.
        inputs: of the graph.
        threads: of one operator.
    """
    cut = {name: np.zeros((2, len(SHARES))) for name in seen}
    counts = dict.fromkeys(seen, 0)
    for _, values in values_of(model, list(seen), samples, inputs, threads=threads):
        for name, x in values.items():
            counts[name] += x.size
            low, high = seen[name]
            cut[name] += _cut_off(-x, -low), _cut_off(x, high)
    return {name: _best(counts[name], cut[name], *seen[name]) for name in seen}


def _cut_off(x: np.ndarray, end: float) -> np.ndarray:
    """Sums of squares of what lies beyond each share of the largest number, which is at least 0."""
    beyond = x[x > SHARES[-1] * end].astype(np.float64)
    return np.array([float((np.maximum(beyond - share * end, 0) ** 2).sum()) for share in SHARES])


def _best(n: int, cut: np.ndarray, low: float, high: float) -> Range:
    """The range of least error; where nothing differs from 0, what was seen."""
    shares = np.array(SHARES)
    steps = (shares * high - shares[:, None] * low) / LEVELS
    error = n * steps**2 / 12 + CUT * (cut[0][:, None] + cut[1])
    lower, upper = np.unravel_index(np.argmin(error), error.shape)
    return SHARES[lower] * low, SHARES[upper] * high
