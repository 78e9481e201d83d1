"""Shapes of inputs, as callers give them."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from bnfold.errors import InputRefused

__all__ = ["check_shapes"]


def check_shapes(input_shapes: Any) -> None:
    """Refuse one shape where there is one for each input.

    Raises:
        InputRefused: as said.
    """
    if input_shapes is None:
        return
    if isinstance(input_shapes, str) or any(isinstance(shape, (Integral, str)) for shape in input_shapes):
        raise InputRefused(
            "input_shapes holds a shape for each input", found=repr(input_shapes),
            remedy="give [(1, 3, 224, 224)] for one input, not (1, 3, 224, 224)",
        )  # fmt: skip
