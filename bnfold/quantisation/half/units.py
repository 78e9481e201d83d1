"""Units of powers of two, in which values lie where float16 has all its digits.

    v' = 2^k v        k = -round(log2 max |v|)   where max |v| lies outside of 2^-8 to 2^8, else 0

for each class of channels whose units hang together. A power of two changes no digit: the graph gives the same bits in
float32, as long as nothing leaves float32's normal range. What an input, an output, or an operator with bounds of its
own (Clip, HardSwish, Sigmoid) touches keeps its units.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from bnfold.quantisation.gauge import in_units, unit_classes
from bnfold.quantisation.half.peaks import float_values, peaks_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx_ir as ir

    from bnfold.records import InputSpec

__all__ = ["HIGHEST", "LOWEST", "PowerUnits", "choose_powers"]

Array = np.ndarray
LOWEST, HIGHEST = 2.0**-8, 2.0**8
"""Magnitudes that stay: 2^8 times below the largest number of float16, 2^6 above its smallest normal one."""
MOST_POWERS = 40  # 2^40 and 2^-40 times what float32 holds as a rule is still in its normal range


@dataclasses.dataclass(frozen=True)
class PowerUnits:
    """A graph in other units.

    Attributes:
        scales: a of what layers read and write, by the value's name, one number for each channel; 1 where absent.
        peaks: the largest magnitude of every float value, by name, in the new units.
        n_classes: of channels whose units are free.
        n_moved: of those that were stored larger or smaller.
    """

    scales: Mapping[str, Array]
    peaks: Mapping[str, float]
    n_classes: int
    n_moved: int


def choose_powers(
    model: ir.Model,
    samples: Mapping[str, Array],
    inputs: Sequence[InputSpec],
    *,
    change: bool = True,
    threads: int | None = None,
) -> PowerUnits:
    """Store every class of channels in units that bring it into range, in place.

    Args:
        model: a prepared float graph.
        samples: that say how large values are.
        inputs: of the graph.
        change: False leaves all units as they are, and says how large values are.
        threads: of one operator.

    Raises:
        InputRefused: a value is not finite in float32 on these samples.
    """
    units, classes = unit_classes(model.graph)
    peaks = peaks_of(model, units, samples, inputs, threads=threads)
    values = float_values(model.graph)
    largest = np.zeros(int(classes.max()) + 1)
    for name, peak in peaks.items():
        np.maximum.at(largest, classes[units.of(values[name])].ravel(), peak.ravel())
    powers = _powers(largest) if change else np.zeros(len(largest))
    scales = in_units(model, 2.0**powers) if powers.any() else {}
    n_moved = int((powers != 0).sum()) if scales else 0
    if not scales:
        powers[:] = 0
    moved = {
        name: float((peak * 2.0 ** powers[classes[units.of(values[name])]]).max(initial=0.0))
        for name, peak in peaks.items()
    }
    return PowerUnits(scales, moved, len(largest) - 1, n_moved)


def _powers(largest: Array) -> Array:
    """k by class; class 0 is pinned, and a channel that is always 0 stays as it is."""
    outside = (largest > 0) & ((largest < LOWEST) | (largest > HIGHEST))
    k = -np.rint(np.log2(np.where(outside, largest, 1.0)))
    k[0] = 0
    return np.clip(k, -MOST_POWERS, MOST_POWERS)
