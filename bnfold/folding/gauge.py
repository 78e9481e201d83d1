"""The chosen units, per id, and how operators read them.

Stored values are `v' = a v + c` with `c = a d`, read back as `v = v' / a - d`. Two one-sided forms serve a scale of
exactly 0, where `y = t` whatever x is and nothing may be divided:

* written dead: `a = 0, c` = the constant, in place of a value that only such a BatchNorm reads;
* read dead: `1/a = 0, d = -t`: the reader takes the constant t and ignores what is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bnfold.folding.units import Ids, Units
from bnfold.numerics.affine import Float64

__all__ = ["Gauge"]


@dataclass(frozen=True)
class Gauge:
    """Units of every id: `scale` a, `offset` d, `constant` c = a d, `inverse` 1/a; shape (number of ids,)."""

    units: Units
    scale: Float64
    offset: Float64
    constant: Float64
    inverse: Float64

    def write(self, value: ir.Value, axis: int, length: int) -> tuple[Float64, Float64]:
        """(a, c), shape (length,), for an operator that writes `v' = a v + c` along `axis`."""
        ids = self._channels(value, axis, length)
        return self.scale[ids], self.constant[ids]

    def read(self, value: ir.Value, axis: int, length: int) -> tuple[Float64, Float64]:
        """(1/a, d), shape (length,), for an operator that reads `v = v' / a - d` along `axis`."""
        ids = self._channels(value, axis, length)
        return self.inverse[ids], self.offset[ids]

    def elements(self, value: ir.Value) -> Ids:
        """The ids of a value, as an array of its rank."""
        return self.units.of(value)

    def trivial(self, value: ir.Value) -> bool:
        """Whether a value keeps its units."""
        return not self._moved[self.units.of(value)].any()

    @cached_property
    def _moved(self) -> NDArray[np.bool_]:
        """Whether each id has other units than the source."""
        moved: NDArray[np.bool_] = (self.scale != 1) | (self.constant != 0) | (self.inverse != 1) | (self.offset != 0)
        return moved

    def _channels(self, value: ir.Value, axis: int, length: int) -> Ids:
        ids = self.units.of(value)
        axis %= ids.ndim
        first = ids[tuple(slice(None) if k == axis else 0 for k in range(ids.ndim))]
        return np.broadcast_to(first, (length,))
