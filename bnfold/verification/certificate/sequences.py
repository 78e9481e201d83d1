"""Shapes of the parts that SplitToSequence makes of a tensor; ONNX infers no more than their type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import NodeProto, helper

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

__all__ = ["part_shape"]


def part_shape(
    node: NodeProto, shape: Sequence[int], split: np.ndarray | None, position: int
) -> tuple[int, ...] | None:
    """The shape of one part; None beyond the last.

    `torch.export` writes `x.split(n, dim)` like that: https://onnx.ai/onnx/operators/onnx__SplitToSequence.html

    Args:
        node: a SplitToSequence.
        shape: of what it splits.
        split: its second input: the length of all parts but the last, or of each; None for 1.
        position: of the part, from behind where it is negative.
    """
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    axis = attributes.get("axis", 0) % len(shape)
    lengths = _lengths(shape[axis], split)
    if not -len(lengths) <= position < len(lengths):
        return None
    if split is None and not attributes.get("keepdims", 1):
        return (*shape[:axis], *shape[axis + 1 :])
    return (*shape[:axis], lengths[position], *shape[axis + 1 :])


def _lengths(whole: int, split: np.ndarray | None) -> list[int]:
    if split is not None and split.ndim:
        return [int(length) for length in split]
    size = 1 if split is None else int(split)
    return [min(size, whole - begin) for begin in range(0, whole, size)] if size > 0 else []
