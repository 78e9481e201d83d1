"""How a Reshape pairs the axes of its input and output, symbolic ones included."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnfold.graph.shapes import completed, regroup


def _dims(*sizes: int | str):
    return tuple((1, (size,)) if isinstance(size, str) else (size, ()) for size in sizes)


@pytest.mark.parametrize(
    ("before", "after", "groups"),
    [
        (("N", 8, 4, 4), ("N", 128), [((0,), (0,)), ((1, 2, 3), (1,))]),
        (("N", 128), ("N", 8, 4, 4), [((0,), (0,)), ((1,), (1, 2, 3))]),
        (("N", 6, "H"), ("N", 2, 3, "H"), [((0,), (0,)), ((1,), (1, 2)), ((2,), (3,))]),
        (("N", "T", 6), ("N", "T", 2, 3), [((0,), (0,)), ((1,), (1,)), ((2,), (2, 3))]),
        (("N", 4, 6), ("N", 6, 4), [((0,), (0,)), ((1, 2), (1, 2))]),
        (("N", 4), ("M", 4), None),
        (("N", 4), ("N", 5), None),
    ],
)
def test_axes_are_paired_in_the_smallest_groups(before, after, groups):
    assert regroup(_dims(*before), _dims(*after)) == groups


@settings(max_examples=100, derandomize=True)
@given(st.lists(st.lists(st.integers(2, 5), min_size=1, max_size=3), min_size=1, max_size=4), st.data())
def test_groups_hold_the_same_number_of_elements(pieces, data):
    """A split of every axis comes back as a partition of both sides, in order, of equal products."""
    before = _dims(*(math.prod(piece) for piece in pieces))
    after = _dims(*(size for piece in pieces for size in piece))
    if data.draw(st.booleans()):
        before, after = after, before
    groups = regroup(before, after)
    assert groups is not None
    assert [axis for old, _ in groups for axis in old] == list(range(len(before)))
    assert [axis for _, new in groups for axis in new] == list(range(len(after)))
    for old, new in groups:
        assert math.prod(before[k][0] for k in old) == math.prod(after[k][0] for k in new)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (("N", 8, 4, 4), ("?y.0", 2, 4, 16), ("N", 2, 4, 16)),
        (("N", "T", 8), ("?y.0", 8), None),
        (("N", 8), ("N", "?y.1", 2), ("N", 4, 2)),
        (("N", 8), ("N", 3, "?y.1"), ("N", 3, "?y.1")),
        (("N", 8), ("?y.0", "?y.1"), ("?y.0", "?y.1")),
        (("N", 8), ("T", "?y.1"), ("T", "?y.1")),
    ],
)
def test_one_unknown_length_follows_from_the_number_of_elements(before, after, expected):
    found = completed(_dims(*before), _dims(*after))
    assert found == ((((1, ("N", "T")), (8, ()))) if expected is None else _dims(*expected))
