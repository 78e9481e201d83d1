"""Ranges of values that are stored in integers: where steps that are shorter gain more than what is cut off loses.

    least over t of   n (t step)^2 / 12 + 4 sum_x |x - clip(x, t low, t high)|^2        step = (high - low) / 255

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
    """The ranges (t low, t high), by the value's name.

    Args:
        model: the prepared float graph; unchanged.
        seen: the lowest and the highest number of each value over all samples, 0 inside.
        samples: arrays by input name, samples first.
        inputs: of the graph.
        threads: of one operator.
    """
    errors = {name: np.zeros(len(SHARES)) for name in seen}
    for _, values in values_of(model, list(seen), samples, inputs, threads=threads):
        for name, x in values.items():
            errors[name] += _errors(x, *seen[name])
    best = {name: SHARES[int(np.argmin(each))] for name, each in errors.items()}
    return {name: (best[name] * low, best[name] * high) for name, (low, high) in seen.items()}


def _errors(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """The sum of squared errors for each share; that of ranges that hold everything where nothing differs from 0."""
    x = x.ravel()
    beyond = x[(x < SHARES[-1] * low) | (x > SHARES[-1] * high)].astype(np.float64)
    step = (high - low) / LEVELS
    found = []
    for share in SHARES:
        cut = beyond - np.clip(beyond, share * low, share * high)
        found.append(x.size * (share * step) ** 2 / 12 + CUT * float(cut @ cut))
    return np.array(found)
