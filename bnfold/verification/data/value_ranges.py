"""Ranges of made-up inputs, for sources that are not finite on standard normal ones (logarithms, roots, quotients)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bnfold.records import InputSpec

__all__ = ["as_compared", "batch_dim", "dims", "in_ranges", "value_texts"]

RANGES = ((0.0, 1.0), (0.0, 255.0), (0.01, 1.0))
"""Images in two scales, and numbers above 0."""


def in_ranges(inputs: Sequence[InputSpec]) -> Iterator[tuple[InputSpec, ...]]:
    """The inputs as they are, then the floating-point ones in each range; nothing else where there are none."""
    yield tuple(inputs)
    if any(_is_float(spec) for spec in inputs):
        for between in RANGES:
            yield tuple(dataclasses.replace(spec, between=between) if _is_float(spec) else spec for spec in inputs)


def as_compared(inputs: Sequence[InputSpec], values: Mapping[str, str]) -> tuple[InputSpec, ...]:
    """The inputs in the range that a verdict states by `value_texts`."""
    return next((tried for tried in in_ranges(inputs) if value_texts(tried) == values), tuple(inputs))


def _is_float(spec: InputSpec) -> bool:
    return np.dtype(spec.dtype).kind not in "iubUSO"


def value_texts(inputs: Sequence[InputSpec]) -> dict[str, str]:
    """The range of each input that has one, or its constant, in words."""
    texts = {}
    for spec in inputs:
        if spec.between is not None:
            texts[spec.name] = "{:g} to {:g}".format(*spec.between)
        elif spec.constant is not None:
            texts[spec.name] = str(spec.constant)
    return texts


def dims(inputs: Sequence[InputSpec]) -> Mapping[str, int]:
    """The sizes of dynamic axes, by symbol."""
    pairs = [pair for spec in inputs if spec.symbols for pair in zip(spec.symbols, spec.shape, strict=True)]
    return {symbol: size for symbol, size in pairs if symbol is not None and size is not None}


def batch_dim(inputs: Sequence[InputSpec]) -> str | None:
    """The symbol of the axis that counts samples, None where it is fixed or has no name."""
    found = (spec.symbols[spec.batch_axis] for spec in inputs if spec.batch_axis is not None and spec.symbols)
    return next((symbol for symbol in found if symbol is not None), None)
