"""The algebra of convolutions against a direct evaluation of its defining sum.

Derandomised: the same examples everywhere, as long as no number in the code changes (Hypothesis draws those too).
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from bnfold.numerics.convolution import Convolution

examples = settings(max_examples=50, derandomize=True)
LENGTH = 9


def evaluate(conv: Convolution, x: np.ndarray) -> np.ndarray:
    """The sum in the docstring of Convolution, term by term, for x of shape (C, ...)."""
    size = x.shape[1:]
    out = [(n + slack - 1) // s + 1 for n, slack, s in zip(size, conv.slack, conv.strides, strict=True)]
    outputs, per_group = conv.weight.shape[:2]
    y = np.empty((outputs, *out))
    for m, o in itertools.product(range(outputs), np.ndindex(*out)):
        first = m // (outputs // conv.group) * per_group
        total = conv.bias[m]
        for c, tap in itertools.product(range(per_group), np.ndindex(*conv.kernel)):
            at = [
                s * i + f + d * j
                for s, i, f, d, j in zip(conv.strides, o, conv.first, conv.dilations, tap, strict=True)
            ]
            if all(0 <= p < n for p, n in zip(at, size, strict=True)):
                total += conv.weight[(m, c, *tap)] * x[(first + c, *at)]
        y[(m, *o)] = total
    return y


def dyadic(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-4, 5, shape) / 4.0


@st.composite
def convolutions(draw, channels: int, outputs: int, strides: tuple[int, ...], slack: tuple[int, ...] | None = None):
    """Any kernel, dilation, padding and group for the given channels; first taps behind position 0 too."""
    rank = len(strides)
    lengths = st.integers(1, 4 if rank == 1 else 2)
    kernel = tuple(draw(lengths) for _ in range(rank))
    group = draw(st.sampled_from([g for g in (1, 2, channels) if channels % g == 0 and outputs % g == 0]))
    seed = draw(st.integers(0, 2**16))
    return Convolution(
        dyadic(seed, outputs, channels // group, *kernel),
        dyadic(seed + 1, outputs),
        tuple(draw(st.integers(-3, 2)) for _ in range(rank)),
        slack if slack is not None else tuple(draw(st.integers(-2, 1)) for _ in range(rank)),
        strides,
        tuple(draw(st.integers(1, 3)) for _ in range(rank)),
        group,
    )


@st.composite
def pairs(draw):
    """Two convolutions of one input that give outputs of one shape, and the input."""
    rank = draw(st.integers(1, 2))
    channels, outputs = draw(st.sampled_from([(4, 4), (4, 2), (2, 4), (1, 3), (6, 6)]))
    strides = tuple(draw(st.integers(1, 2)) for _ in range(rank))
    first = draw(convolutions(channels, outputs, strides))
    second = draw(convolutions(channels, outputs, strides, first.slack))
    size = (LENGTH,) if rank == 1 else (4, 5)
    return first, second, dyadic(draw(st.integers(0, 2**16)), channels, *size)


@examples
@given(pairs())
def test_sum_computes_the_sum(pair):
    """Bit for bit: dyadic parameters make all of this exact, whatever its order."""
    first, second, x = pair
    assert first.adds_to(second, x.shape[1:])
    total = first + second
    np.testing.assert_array_equal(evaluate(total, x), evaluate(first, x) + evaluate(second, x))
    np.testing.assert_array_equal(evaluate(second + first, x), evaluate(total, x))


@examples
@given(pairs())
def test_macs_of_a_sum_are_known_beforehand(pair):
    first, second, _ = pair
    assert first.macs_of_sum(second) == (first + second).macs


@settings(examples, suppress_health_check=[HealthCheck.filter_too_much])  # most pairs have a padding below 0
@given(pairs())
def test_padding_of_a_sum_is_never_negative(pair):
    """Where both operands could be written as ONNX convolutions, so can their sum."""
    first, second, _ = pair
    assume(all(p >= 0 for p in (*first.pads, *second.pads)))
    assert all(p >= 0 for p in (first + second).pads)


@examples
@given(pairs(), st.integers(0, 2**16))
def test_scaled(pair, seed):
    conv, _, x = pair
    scale, shift = dyadic(seed, conv.bias.size), dyadic(seed + 1, conv.bias.size)
    column = (-1, *[1] * (x.ndim - 1))
    wanted = scale.reshape(column) * evaluate(conv, x) + shift.reshape(column)
    np.testing.assert_array_equal(evaluate(conv.scaled(scale, shift), x), wanted)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_identity(rank):
    x = dyadic(rank, 3, *[4] * rank)
    conv = Convolution.identity(3, rank)
    np.testing.assert_array_equal(evaluate(conv, x), x)
    assert conv.is_scale
    assert conv.macs == 0
    assert conv.pads == (0,) * 2 * rank


def one_dimensional(kernel: int, *, first: int = 0, slack: int = 0, dilation: int = 1, **changes) -> Convolution:
    options = {"channels": 4, "group": 1, "stride": 1} | changes
    channels, group = options["channels"], options["group"]
    weight = dyadic(kernel, channels, channels // group, kernel)
    return Convolution(weight, dyadic(1, channels), (first,), (slack,), (options["stride"],), (dilation,), group)


@pytest.mark.parametrize(
    ("a", "b", "first", "kernel", "dilation"),
    [
        ((3, -1, 1), (1, 0, 1), -1, 3, 1),  # RepVGG
        ((2, -1, 1), (2, 0, 1), -1, 3, 1),  # two even kernels, padded in front and behind
        ((3, -2, 2), (1, 0, 1), -2, 3, 2),  # the centre of a dilated kernel
        ((3, -4, 4), (3, -2, 2), -4, 5, 2),  # dilations 4 and 2
        ((3, -2, 2), (3, -3, 3), -3, 7, 1),  # dilations 2 and 3 have only 1 in common
        ((3, -2, 2), (1, 1, 1), -2, 5, 1),  # a tap between two others
        ((1, -1, 1), (1, 1, 1), -1, 2, 2),  # two lone taps
        ((1, 2, 1), (1, 4, 1), 0, 3, 2),  # both behind position 0, which becomes a tap: no negative padding
    ],
)
def test_taps_of_a_sum(a, b, first, kernel, dilation):
    total = one_dimensional(a[0], first=a[1], dilation=a[2]) + one_dimensional(b[0], first=b[1], dilation=b[2])
    assert (total.first, total.kernel, total.dilations) == ((first,), (kernel,), (dilation,))


@pytest.mark.parametrize(("a", "b", "group"), [(4, 4, 4), (4, 1, 1), (2, 4, 2), (2, 1, 1), (2, 2, 2)])
def test_groups_of_a_sum(a, b, group):
    total = one_dimensional(3, group=a) + one_dimensional(1, group=b)
    assert total.group == group
    assert total.weight.shape == (4, 4 // group, 3)


def test_groups_without_a_common_one_become_their_greatest_common_divisor():
    total = one_dimensional(1, channels=12, group=4) + one_dimensional(1, channels=12, group=6)
    assert total.group == 2
    x = dyadic(0, 12, LENGTH)
    parts = (one_dimensional(1, channels=12, group=g) for g in (4, 6))
    np.testing.assert_array_equal(evaluate(total, x), sum(evaluate(part, x) for part in parts))


@pytest.mark.parametrize(
    ("changes", "adds"),
    [
        ({}, True),
        ({"stride": 2}, False),
        ({"slack": 1}, False),
        ({"channels": 8}, False),
        ({"group": 4, "dilation": 2, "first": -1}, True),
    ],
)
def test_what_can_be_added(changes, adds):
    """Same positions, same channels."""
    assert one_dimensional(3).adds_to(one_dimensional(3, **changes), (LENGTH,)) == adds
    assert one_dimensional(3).adds_to(one_dimensional(3, **changes), (None,)) == adds


def test_slack_may_not_matter_to_a_stride():
    """7 positions at stride 2 are 4 outputs, whether a row of zeros is behind them or not."""
    a, b = one_dimensional(1, stride=2), one_dimensional(3, stride=2, first=-1, slack=1)
    x = dyadic(0, 4, 7)
    assert a.adds_to(b, (7,))
    assert not a.adds_to(b, (8,))
    assert not a.adds_to(b, (None,))
    wanted = evaluate(a, x) + evaluate(b, x)
    np.testing.assert_array_equal(evaluate(a + b, x), wanted)
    np.testing.assert_array_equal(evaluate(b + a, x), wanted)


@pytest.mark.parametrize(
    ("conv", "macs"),
    [
        (one_dimensional(3), 48),
        (one_dimensional(3, group=4), 12),
        (one_dimensional(1), 16),
        (one_dimensional(1, group=4), 0),
        (one_dimensional(1, group=4, stride=2), 4),
        (one_dimensional(1, group=4, first=-1, slack=2), 4),
    ],
)
def test_macs(conv, macs):
    """Per output position; a scale per channel takes none, but one that also strides or pads is a convolution."""
    assert conv.macs == macs
    assert conv.is_scale == (macs == 0)


def test_pads_are_leading_then_trailing():
    conv = Convolution(np.ones((1, 1, 2, 3)), np.zeros(1), (-1, 0), (0, 1), (1, 1), (1, 2), 1)
    assert conv.pads == (1, 0, 0, 5)


@pytest.mark.parametrize("first", [(0, 0), (1, 0), (0, -1)])
@pytest.mark.parametrize("slack", [(0, 0), (1, 0), (0, -1)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 1)])
def test_a_scale_stays_in_place_along_every_axis(first, slack, strides):
    conv = Convolution(np.ones((3, 1, 1, 1)), np.zeros(3), first, slack, strides, (1, 1), 3)
    assert conv.is_scale == (not any(first) and not any(slack) and strides == (1, 1))


@pytest.mark.parametrize(("slack", "size", "adds"), [
    ((0, 0), (5, 5), True), ((0, 1), (5, 5), False), ((1, 0), (5, 5), False), ((0, 1), (None, None), False),
])  # fmt: skip
def test_a_sum_has_the_same_size_along_every_axis(slack, size, adds):
    here, there = (Convolution(np.ones((3, 1, 1, 1)), np.zeros(3), (0, 0), own, (1, 1), (1, 1), 3)
                   for own in ((0, 0), slack))  # fmt: skip
    assert here.adds_to(there, size) == adds
