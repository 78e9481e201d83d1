"""How a Reshape pairs the axes of its input and output, symbolic ones included."""

from __future__ import annotations

import math

import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnfold.graph.shapes import completed, dims_of, regroup


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


def _value(*sizes: int | str | None) -> ir.Value:
    return ir.Value(name="v", shape=ir.Shape(sizes), type=ir.TensorType(ir.DataType.FLOAT))


def _length(text: str):
    (dim,) = dims_of(_value(text))
    return dim


NAMES = ("a", "b", "c", "d")
EXPRESSIONS = st.recursive(
    st.sampled_from([*NAMES, "1", "2", "3"]),
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from(["+", "*", "-"]), inner)
        | st.builds("({})**{}".format, inner, st.sampled_from([1, 2]))
    ),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("first", "second", "equal"),
    [
        ("(a*b+1)*(c*d+1)", "(a*d+1)*(c*b+1)", False),
        ("(a*b+1)*(c*d+1)", "(d*c + 1)*(1 + b*a)", True),
        ("a**2*b", "a*b*2", False),
        ("a**2*b", "b*a*a", True),
        ("(a+b)*2", "2*a + 2*b", True),
        ("a+b*2", "(a+b)*2", False),
        ("64*batch", "batch*64", True),
        ("1-a", "a-1", False),
        ("a//2*4", "4*(a//2)", True),
        ("a//2*2", "a", False),
        ("a/2", "a", False),
        ("(a + 1)**(-1)", "1 + a", False),
        ("batch", "batch_size", False),
        ("sequence length", "length sequence", False),
        ("a*(", "(a*", False),
    ],
)
def test_lengths_are_equal_where_their_difference_is_0(first, second, equal):
    assert (_length(first) == _length(second)) is equal


@settings(max_examples=60, derandomize=True, deadline=None)
@given(EXPRESSIONS, EXPRESSIONS)
def test_equal_lengths_look_alike(first, second):
    """The measure is onnx_ir's own: the difference simplifies to 0."""
    difference = (ir.SymbolicDim(f"0 + {first}") - ir.SymbolicDim(f"0 + {second}")).simplify()
    assert (_length(first) == _length(second)) is (difference.value == "0")


@pytest.mark.parametrize(
    "name",
    [
        "x-",
        "1/0",
        "batch size",
        "(" * 400,
        "(a + 1)**99999999",
        "a b*c",
        "*",
        "Größe",
        "/decoder/Squeeze_output_0_dim_0",
    ],
)
def test_a_name_that_is_no_expression_is_a_symbol_of_its_own(name):
    assert _length(name) == (1, (name,))


def test_plain_names_and_products_are_not_parsed(monkeypatch):
    """Which takes sympy, and a second."""
    monkeypatch.setattr(ir.SymbolicDim, "simplify", None)
    assert _length("plain.name_7") == (1, ("plain.name_7",))
    assert _length("3 * plain*2") == (6, ("plain",))
    assert dims_of(_value(3, None)) == ((3, ()), (1, ("?v.1",)))
