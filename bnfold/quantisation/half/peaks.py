"""The largest magnitude of every float value of a graph over samples, for each of the elements whose units differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from bnfold.errors import InputRefused
from bnfold.graph.constants import constant
from bnfold.quantisation.calibrate import values_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnfold.folding.units import Units
    from bnfold.records import InputSpec

__all__ = ["float_values", "peaks_of"]

Array = np.ndarray


def float_values(graph: ir.Graph) -> dict[str, ir.Value]:
    """The float32 values that are computed, by name, inputs first."""
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    return {
        str(value.name): value
        for value in values
        if value.name and value.dtype == ir.DataType.FLOAT and constant(value) is None
    }


def peaks_of(
    model: ir.Model,
    units: Units,
    samples: Mapping[str, Array],
    inputs: Sequence[InputSpec],
    *,
    threads: int | None = None,
) -> dict[str, Array]:
    """max |v| over samples by name, an array of the value's ids: length 1 on the axes along which units are uniform.

    Args:
        model: a float graph; unchanged.
        units: of its graph.
        samples: arrays by input name, samples first.
        inputs: of the graph.
        threads: of one operator.

    Raises:
        InputRefused: a value is not finite in float32 on these samples.
    """
    known = float_values(model.graph)
    found: dict[str, Array] = {}
    for _, values in values_of(model, list(known), samples, inputs, threads=threads):
        for name, value in values.items():
            peak = _reduced(np.abs(value), units.of(known[name]).shape)
            if not np.isfinite(peak).all():
                raise InputRefused(
                    "a value of the network is not finite on the samples in float32", where=name,
                    found=str(float(peak.max())), remedy="check how the samples are scaled",
                )  # fmt: skip
            found[name] = peak if name not in found else np.maximum(found[name], peak)
    return found


def _reduced(magnitudes: Array, shape: tuple[int, ...]) -> Array:
    """The maximum over the axes along which the shape of the ids has length 1; over all where the ranks differ."""
    if magnitudes.ndim != len(shape) or any(
        ids not in (1, own) for ids, own in zip(shape, magnitudes.shape, strict=True)
    ):
        return np.asarray(magnitudes.max(initial=0.0)).reshape((1,) * len(shape))
    axes = tuple(axis for axis, length in enumerate(shape) if length == 1)
    return np.asarray(magnitudes.max(axis=axes, keepdims=True, initial=0.0))
