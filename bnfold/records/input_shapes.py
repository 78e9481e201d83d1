"""Shapes of inputs, as callers give them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bnfold.errors import InputRefused

__all__ = ["check_shapes"]


def check_shapes(input_shapes: Any) -> None:
    """Refuse one shape where there is one for each input.

    Raises:
        InputRefused: as said.
    """
    if isinstance(input_shapes, str) or any(not isinstance(shape, Sequence) for shape in input_shapes or ()):
        raise InputRefused(
            "input_shapes holds a shape for each input", found=repr(input_shapes),
            remedy="give [(1, 3, 224, 224)] for one input, not (1, 3, 224, 224)",
        )  # fmt: skip
