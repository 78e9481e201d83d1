"""Images of several sizes in one batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from bnfold.errors import InputRefused
from bnfold.evaluation.mixed_sizes import has_several_sizes, run_by_size, stacked

if TYPE_CHECKING:
    from collections.abc import Sequence

IMAGES = [
    np.full(shape, k, np.float32) for k, shape in enumerate([(1, 4, 4), (1, 2, 3), (1, 4, 4), (1, 2, 3), (1, 5, 5)])
]


def test_those_of_one_size_are_one_array() -> None:
    assert stacked(IMAGES[:1]).shape == (1, 1, 4, 4)
    assert stacked([IMAGES[0], IMAGES[2]]).shape == (2, 1, 4, 4)
    assert not has_several_sizes(stacked([IMAGES[0], IMAGES[2]]))


def test_those_of_one_size_run_together_and_come_back_in_order() -> None:
    asked = []

    def run(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        asked.append(arrays[0].shape)
        return [arrays[0].mean(axis=(2, 3)), arrays[0][:, :, 0, 0] + 10]

    mixed = stacked(IMAGES)
    assert has_several_sizes(mixed)
    means, corners = run_by_size(run, mixed, "net.onnx")
    assert asked == [(2, 1, 4, 4), (2, 1, 2, 3), (1, 1, 5, 5)]
    assert means[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert corners[:, 0].tolist() == [10, 11, 12, 13, 14]


def test_outputs_of_several_sizes_are_refused() -> None:
    with pytest.raises(InputRefused, match="as different in size as the images"):
        run_by_size(list, stacked(IMAGES), "net.onnx")
