"""The two systems the chooser decides with: scales by ratios, offsets by elimination; what is taken back is gone."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnfold.folding.offsets import ZERO, OffsetConflict, Offsets, OffsetsEntangled
from bnfold.folding.scales import PINNED, ScaleConflict, Scales

CLASSES = 6
examples = settings(max_examples=100, derandomize=True)
ratios = st.tuples(
    st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1), st.sampled_from([1.0, -1.0, 2.0, -0.5, 4.0])
)


def _offsets() -> Offsets:
    return Offsets([0.0] * CLASSES, [True] * CLASSES)


def _relate(scales: Scales, c: int, e: int, k: float) -> None:
    scales.relate(np.array([c]), np.array([e]), np.array([k]))


@examples
@given(st.lists(ratios, max_size=12), st.sets(st.integers(1, CLASSES - 1)))
def test_accepted_ratios_hold_all_together(relations, positive):
    scales = Scales(CLASSES, positive)
    accepted = []
    for c, e, k in relations:
        mark = scales.mark()
        try:
            _relate(scales, c, e, k)
        except ScaleConflict:
            scales.rewind(mark)
        else:
            accepted.append((c, e, k))
    values = scales.values()
    assert values[PINNED] == 1
    assert all(values[c] > 0 for c in positive)
    for c, e, k in accepted:
        assert values[c] == k * values[e]


@examples
@given(st.lists(ratios, min_size=1, max_size=8), st.lists(ratios, max_size=4))
def test_rewound_ratios_leave_no_trace(first, second):
    def build(*, detour: bool) -> list[float]:
        scales = Scales(CLASSES, {1})
        for c, e, k in first:
            try:
                _relate(scales, c, e, k)
            except ScaleConflict:
                continue
        mark = scales.mark()
        if detour:
            for c, e, k in second:
                try:
                    _relate(scales, c, e, k)
                except ScaleConflict:
                    break
            scales.rewind(mark)
        return scales.values().tolist()

    assert build(detour=True) == build(detour=False)


def test_a_conflict_says_whether_it_is_one_of_sign():
    scales = Scales(3, {1})
    _relate(scales, 1, PINNED, 2.0)
    with pytest.raises(ScaleConflict) as conflict:
        _relate(scales, 1, PINNED, 3.0)
    assert not conflict.value.sign
    with pytest.raises(ScaleConflict) as conflict:
        _relate(scales, 1, PINNED, -2.0)
    assert conflict.value.sign


@examples
@given(st.lists(ratios, min_size=1, max_size=8), st.sets(st.integers(1, CLASSES - 1)))
def test_ratios_given_at_once_are_those_given_one_by_one(relations, positive):
    together, alone = Scales(CLASSES, positive), Scales(CLASSES, positive)
    try:
        together.relate(*(np.array(column) for column in zip(*relations, strict=True)))
        refused = None
    except ScaleConflict as conflict:
        refused = conflict.position, conflict.sign
    first = None
    for position, relation in enumerate(relations):
        try:
            _relate(alone, *relation)
        except ScaleConflict as conflict:
            first = position, conflict.sign
            break
    assert refused == first
    assert first is not None or together.values().tolist() == alone.values().tolist()


rows = st.tuples(
    st.dictionaries(st.integers(0, CLASSES - 1), st.sampled_from([1.0, -1.0, 2.0, 0.5]), min_size=1, max_size=4),
    st.integers(-3, 3).map(float),
)


@examples
@given(st.lists(rows, max_size=10))
def test_accepted_offsets_hold_all_together_and_refused_ones_cannot(relations):
    """Against the rank of the system: a relation is refused exactly if it makes the equations contradictory."""
    offsets = _offsets()
    matrix, right = np.zeros((0, CLASSES)), np.zeros(0)
    for row, constant in relations:
        line = np.array([row.get(c, 0.0) if c != ZERO else 0.0 for c in range(CLASSES)])
        wider, longer = np.vstack([matrix, line]), np.append(right, constant)
        solvable = np.linalg.matrix_rank(wider) == np.linalg.matrix_rank(np.column_stack([wider, longer]))
        mark = offsets.mark()
        try:
            offsets.relate(dict(row), constant)
        except OffsetConflict:
            offsets.rewind(mark)
            assert not solvable
        else:
            assert solvable
            matrix, right = wider, longer
    values = np.array([offsets.value(c) for c in range(CLASSES)])
    assert values[ZERO] == 0
    # Five unknowns are eliminated; with coefficients of 0.5 to 2 each elimination makes a rounding error about four
    # times as large at most, and 1e3 is below 4^5.
    np.testing.assert_allclose(matrix @ values, right, rtol=0, atol=2.0**-53 * 1e3 * max(np.abs(values).max(), 1))


def test_offset_goes_where_it_costs_least():
    offsets = Offsets([0.0, 5.0, -1.0], [True] * 3)
    offsets.relate({1: 1.0, 2: -1.0}, 3.0)
    assert (offsets.value(1), offsets.value(2)) == (0.0, -3.0)


def test_small_coefficient_is_no_pivot_for_an_offset_that_others_share():
    offsets = Offsets([0.0, -1.0, 0.0], [True, False, True])
    offsets.relate({1: 1e-12, 2: -1.0}, 3.0)
    assert (offsets.value(1), offsets.value(2)) == (0.0, -3.0)


@examples
@given(st.lists(rows, max_size=4), st.lists(rows, min_size=1, max_size=4), st.sets(st.integers(1, CLASSES - 1)))
def test_offsets_given_at_once_are_those_given_one_by_one(before, relations, private):
    """Unless they hang together, which is said and changes nothing."""
    together, alone = (
        Offsets([float(c % 3) for c in range(CLASSES)], [c in private for c in range(CLASSES)]) for _ in range(2)
    )
    for row, constant in before:
        for offsets in (together, alone):
            with contextlib.suppress(OffsetConflict):
                offsets.relate(dict(row), constant)
    n_terms = max(len(row) for row, _ in relations)
    padded = [[*row.items(), *[(ZERO, 0.0)] * (n_terms - len(row))] for row, _ in relations]
    classes = np.array([[c for c, _ in terms] for terms in padded]).T
    coefficients = np.array([[v for _, v in terms] for terms in padded]).T
    try:
        refused = together.relate_apart(classes, coefficients, np.array([constant for _, constant in relations]))
    except OffsetsEntangled:
        assert together.values(np.arange(CLASSES)).tolist() == alone.values(np.arange(CLASSES)).tolist()
        return
    for position, (row, constant) in enumerate(relations):
        try:
            alone.relate(dict(row), constant)
        except OffsetConflict:
            assert refused == position
            return
    assert refused is None
    every = np.arange(CLASSES)
    assert together.values(every).tolist() == alone.values(every).tolist()
    assert [together.expand(c) for c in range(CLASSES)] == [alone.expand(c) for c in range(CLASSES)]


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize(("off", "holds"), [(1e-15, True), (1e-12, False)])
def test_a_cycle_is_closed_up_to_rounding_whatever_its_size(size, off, holds):
    scales = Scales(3, set())
    _relate(scales, 1, 2, size)
    if holds:
        _relate(scales, 1, 2, size * (1 + off))
    else:
        with pytest.raises(ScaleConflict):
            _relate(scales, 1, 2, size * (1 + off))
