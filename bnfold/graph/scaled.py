"""Weights in new units that are not computed yet, and whether they fit the type they are stored in."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

__all__ = ["Scaled", "fits", "largest"]

_BLOCK = 1 << 17  # elements; 1 MiB in float64, which stays in the cache between the passes over it


class Scaled(ir.LazyTensor):
    """A stored weight times factors that broadcast to its shape, computed in float64 whenever it is read.

    Large weights are never all held in float64: only one is while it is read, and one block of it while it is rounded.
    One that is scaled again takes both factors: however often units change, the stored weight is rounded once.
    """

    def __init__(self, stored: ir.TensorProtocol, *factors: NDArray[np.float64], name: str | None = None) -> None:
        before = stored.factors if isinstance(stored, Scaled) else ()
        self.stored: ir.TensorProtocol = stored.stored if isinstance(stored, Scaled) else stored
        self.factors: tuple[NDArray[np.float64], ...] = (
            *before,
            *(factor for factor in factors if not np.all(factor == 1)),
        )
        whole = functools.partial(_computed, self.stored, self.factors, slice(None))
        shape = ir.Shape(tuple(stored.shape.numpy()))
        super().__init__(lambda: ir.Tensor(whole()), ir.DataType.DOUBLE, shape, name=name)

    def blocks(self) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """The rows (axis 0) a few at a time, in float64."""
        shape = self.shape.numpy()
        n_rows = max(1, _BLOCK // max(1, math.prod(shape[1:])))
        array = self.stored.numpy()
        for start in range(0, shape[0], n_rows):
            rows = slice(start, start + n_rows)
            yield rows, _scaled(array, self.factors, rows)

    def nonzero(self, part: tuple[slice | int, ...] = ()) -> NDArray[np.bool_]:
        """Where it, or a part of it, is not 0."""
        array = self.stored.numpy()
        nonzero: NDArray[np.bool_] = array[part] != 0
        for factor in self.factors:
            nonzero &= np.broadcast_to(factor, array.shape)[part] != 0
        return nonzero

    def fits(self, dtype: ir.DataType) -> bool:
        """Whether every finite element stays finite in `dtype`: by a bound, or element by element where that fails."""
        bound = math.prod((largest(self.stored.numpy()), *(largest(factor) for factor in self.factors)))
        return fits(2 * bound, dtype) or all(fits(largest(block), dtype) for _, block in self.blocks())


def _computed(stored: ir.TensorProtocol, factors: tuple[NDArray[np.float64], ...], rows: slice) -> NDArray[np.float64]:
    return _scaled(stored.numpy(), factors, rows)


def _scaled(array: NDArray[Any], factors: tuple[NDArray[np.float64], ...], rows: slice) -> NDArray[np.float64]:
    block: NDArray[np.float64] = array[rows].astype(np.float64)
    for factor in factors:
        block *= factor[rows] if factor.shape[0] > 1 else factor
    return block


def largest(array: NDArray[Any]) -> float:
    """The largest magnitude in an array; NaN if there is one in it."""
    return float(np.maximum(array.max(initial=0), -array.min(initial=0)))


def fits(magnitude: float, dtype: ir.DataType) -> bool:
    """Whether a number of this magnitude stays finite in `dtype`, if it was."""
    with np.errstate(over="ignore"):  # what is asked
        return not math.isfinite(magnitude) or bool(np.isfinite(np.float64(magnitude).astype(dtype.numpy())))
