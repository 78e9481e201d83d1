"""A model without functions of its own: their bodies stand where they were called."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx.inliner

if TYPE_CHECKING:
    import onnx

__all__ = ["inlined"]


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its functions inlined; the very same one where it has none."""
    return onnx.inliner.inline_local_functions(model) if model.functions else model
