"""BatchNorms that vanish across operators that move, pool or join elements, and those that such operators hold.

Derandomised, as in test_linear_operators: the same examples everywhere.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from fold_checks import check_fold, kept, kept_causes
from fold_models import Net, Parameters
from hypothesis import given, settings
from hypothesis import strategies as st

from bnfold.records.causes import Cause, Holder

few = settings(max_examples=8, derandomize=True)
parameters = st.builds(
    Parameters,
    st.integers(0, 2**16),
    dyadic=st.booleans(),
    gammas=st.sampled_from(["positive", "mixed", "zeros", "tiny"]),
)
C = 4
# Each takes (net, value of shape (N, 4, 6, 6)) to a value of four channels on axis 1.
Carrier = Callable[[Net, str], str]


def _resize(mode: str) -> Carrier:
    return lambda n, x: n.node("Resize", [x, "", n.tensor(np.array([1, 1, 2, 2], np.float32))], mode=mode)


def _pad(mode: str) -> Carrier:
    return lambda n, x: n.node("Pad", [x, n.integers([0, 0, 1, 2, 0, 0, 0, 1])], mode=mode)


def _slice(axis: int, *bounds: int) -> Carrier:
    return lambda n, x: n.node("Slice", [x, *(n.integers([v]) for v in (*bounds[:2], axis, bounds[2]))])


def _there_and_back(n: Net, x: str) -> str:
    y = n.node("Transpose", [x], perm=[0, 2, 3, 1])
    y = n.node("Reshape", [y, n.integers([-1, 36, C])])
    y = n.node("Unsqueeze", [n.node("Transpose", [y], perm=[0, 2, 1]), n.integers([-1])])
    return n.node("Reshape", [n.node("Squeeze", [y, n.integers([3])]), n.integers([-1, C, 6, 6])])


def _shuffle(n: Net, x: str) -> str:
    y = n.node("Reshape", [x, n.integers([-1, 2, 2, 6, 6])])
    return n.node("Reshape", [n.node("Transpose", [y], perm=[0, 2, 1, 3, 4]), n.integers([-1, C, 6, 6])])


def _split_and_join(n: Net, x: str) -> str:
    first, second = n.node("Split", [x, n.integers([1, 3])], outputs=2, axis=1)
    return n.node("Concat", [second, first], axis=1)


MOVERS: dict[str, Carrier] = {
    "Identity": lambda n, x: n.node("Identity", [x]),
    "Dropout": lambda n, x: n.node("Dropout", [x]),
    "Transpose, Reshape, Squeeze, Unsqueeze": _there_and_back,
    "channel shuffle": _shuffle,
    "Split and Concat": _split_and_join,
    "Slice of space": _slice(2, 1, 5, 2),
    "Slice reversed": _slice(1, -1, -10, -1),
    "Gather of channels": lambda n, x: n.node("Gather", [x, n.integers([3, 0, 0, -2])], axis=1),
    "Gather of pixels": lambda n, x: n.node("Gather", [x, n.integers([3, 0, -1])], axis=3),
    "Pad edge": _pad("edge"),
    "Pad reflect": _pad("reflect"),
    "AveragePool": lambda n, x: n.node("AveragePool", [x], kernel_shape=[2, 2], strides=[2, 2]),
    "AveragePool, padding not counted": lambda n, x: n.node("AveragePool", [x], kernel_shape=[2, 2], pads=[1, 0, 1, 0]),
    "GlobalAveragePool": lambda n, x: n.node("GlobalAveragePool", [x]),
    "ReduceMean": lambda n, x: n.node("ReduceMean", [x, n.integers([2, 3])]),
    "Resize nearest": _resize("nearest"),
    "Resize linear": _resize("linear"),
}
HALVING = {"AveragePool, padding not counted", "GlobalAveragePool", "ReduceMean", "Resize linear"}


@few
@pytest.mark.parametrize("name", list(MOVERS))
@given(p=parameters)
def test_batchnorm_behind_conv_and_carrier(name, p):
    """The constant of a dead channel takes the same way back, so it does not matter how many channels are."""
    p.gammas = "mixed" if name == "Gather of channels" and p.gammas == "zeros" else p.gammas
    net = Net(p, {"x": ("N", 3, 6, 6)})
    p.dyadic &= name not in HALVING
    carried = MOVERS[name](net, net.conv("x", 3, C))
    if name == "Gather of channels":  # two of the four are one channel of the conv, and must agree
        gamma, beta, mean, variance = p.batchnorm(C)
        for array in (gamma, beta, mean, variance):
            array[2] = array[1]
        y = net.batchnorm(carried, C, gamma=gamma, beta=beta, mean=mean, variance=variance)
    else:
        y = net.batchnorm(carried, C)
    _, ledger = check_fold(net.model(y), net.feed(), exact=p.dyadic)
    assert kept_causes(ledger) == {}


@few
@pytest.mark.parametrize("name", list(MOVERS))
@given(p=parameters)
def test_batchnorm_in_front_of_carrier_and_conv(name, p):
    p.gammas = "mixed" if name.startswith("Reduce") and p.gammas == "zeros" else p.gammas
    net = Net(p, {"x": ("N", C, 6, 6)})
    p.dyadic &= name not in HALVING
    y = net.conv(MOVERS[name](net, net.batchnorm("x", C)), C, 3)
    _, ledger = check_fold(net.model(y), net.feed(), exact=p.dyadic)
    assert kept_causes(ledger) == {}


@few
@given(parameters, st.booleans())
def test_batchnorm_flatten_gemm(p, behind):
    """Each channel becomes 36 columns of the weight."""
    net = Net(p, {"x": ("N", C, 6, 6)})
    x = net.conv("x", C, C) if behind else net.batchnorm("x", C)
    flat = net.node("Flatten", [x])
    if behind:
        flat = net.batchnorm(flat, 36 * C, gamma=np.repeat(p.gamma(C), 36), variance=1 - 2.0**-10, epsilon=2.0**-10)
    y = net.gemm(flat, 36 * C, 3, bias=(3,))
    _, ledger = check_fold(net.model(y), net.feed(), exact=p.dyadic)
    assert kept_causes(ledger) == {}


@few
@given(parameters, st.sampled_from(["DCR", "CRD"]))
def test_batchnorm_behind_depth_to_space(p, mode):
    net = Net(p, {"x": ("N", 3, 6, 6)})
    y = net.node("DepthToSpace", [net.conv("x", 3, 4 * C)], blocksize=2, mode=mode)
    _, ledger = check_fold(net.model(net.batchnorm(y, C)), net.feed(), exact=p.dyadic)
    assert kept_causes(ledger) == {}


@few
@given(parameters)
def test_batchnorm_in_front_of_depth_to_space_stays(p):
    """One output channel gathers four inputs of four different units."""
    p.gammas = "positive"
    net = Net(p, {"x": ("N", 8, 4, 4)})
    gamma, variance = 2.0 ** np.arange(8), 1 - 2.0**-10
    y = net.node("DepthToSpace", [net.batchnorm("x", 8, gamma=gamma, variance=variance)], blocksize=2)
    _, ledger = check_fold(net.model(net.conv(y, 2, 3)), net.feed(), exact=p.dyadic)
    assert kept(ledger)["batchnormalization_0"].before == Holder(Cause.GRAPH_INPUT, "x")


ACTIVATIONS: dict[str, Carrier] = {
    "Relu": lambda n, x: n.node("Relu", [x]),
    "LeakyRelu": lambda n, x: n.node("LeakyRelu", [x], alpha=0.25),
    "PRelu": lambda n, x: n.node("PRelu", [x, n.constant(n.parameters.factor(C, 1, 1))]),
    "Clip at 0": lambda n, x: n.node("Clip", [x, n.constant(0.0)]),
    "MaxPool": lambda n, x: n.node("MaxPool", [x], kernel_shape=[2, 2], pads=[1, 0, 0, 1]),
    "GlobalMaxPool": lambda n, x: n.node("GlobalMaxPool", [x]),
    "ReduceMax": lambda n, x: n.node("ReduceMax", [x, n.integers([2, 3])]),
}


@few
@pytest.mark.parametrize("name", list(ACTIVATIONS))
@given(p=parameters)
def test_conv_activation_batchnorm_linear(name, p):
    """A positive scale passes the activation either way; anything else goes into the layer behind."""
    net = Net(p, {"x": ("N", 3, 6, 6)})
    y = net.batchnorm(ACTIVATIONS[name](net, net.conv("x", 3, C)), C)
    _, ledger = check_fold(net.model(net.conv(y, C, 2)), net.feed(), exact=p.dyadic)
    assert kept_causes(ledger) == {}


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_negative_scale_stays_behind_an_activation(name):
    net = Net(Parameters(0, dyadic=True), {"x": ("N", 3, 6, 6)})
    y = net.batchnorm(ACTIVATIONS[name](net, net.conv("x", 3, C)), C, gamma=[1, -1, 2, 1], beta=0, mean=0)
    _, ledger = check_fold(net.model(net.node("Identity", [y])), net.feed(), exact=True)
    (stays,) = kept(ledger).values()
    assert (stays.cause, stays.channel) == (Cause.SIGN, 1)


@pytest.mark.parametrize("name", list(ACTIVATIONS))
@pytest.mark.parametrize("p", [Parameters(0, dyadic=True), Parameters(1, dyadic=False)], ids=["dyadic", "random"])
def test_scale_of_0_behind_an_activation_in_a_residual_branch(name, p):
    """The branch writes 0, which the activation passes on, and the constant rides the stream (ConvMixer)."""
    net = Net(p, {"x": ("N", 3, 6, 6)})
    x = net.conv("x", 3, C)
    y = net.batchnorm(ACTIVATIONS[name](net, net.conv(x, C, C)), C, gamma=[1, 0, 2, 0])
    _, ledger = check_fold(net.model(net.conv(net.node("Add", [x, y]), C, 2)), net.feed(), exact=p.dyadic)
    assert kept_causes(ledger) == {}


def test_scale_of_0_behind_a_relu_stays_where_no_offset_may_be():
    """The padded convolution behind the sum wants its border at 0, and the constant would be an offset there."""
    net = Net(Parameters(0, dyadic=True), {"x": ("N", 3, 6, 6)})
    x = net.node("Relu", [net.conv("x", 3, 4)])
    y = net.batchnorm(net.node("Relu", [net.conv(x, 4, 4)]), 4, gamma=[1, 0, 2, 1], beta=[0, 1, 0, 0], mean=0)
    padded = net.conv(net.node("Add", [x, y]), 4, 2, (3, 3), pads=[1, 1, 1, 1])
    _, ledger = check_fold(net.model(padded), net.feed(), exact=True)
    (stays,) = kept(ledger).values()
    assert (stays.cause, stays.channel) == (Cause.ZERO_SCALE, 1)


@pytest.mark.parametrize("gamma", [1, 2])
def test_offset_behind_relu_stays_and_behind_max_pool_goes(gamma):
    outcomes = {}
    for name in ("Relu", "MaxPool"):
        net = Net(Parameters(0, dyadic=True), {"x": ("N", 3, 6, 6)})
        y = net.batchnorm(ACTIVATIONS[name](net, net.conv("x", 3, C)), C, gamma=gamma, beta=1, mean=0)
        _, ledger = check_fold(net.model(net.node("Identity", [y])), net.feed(), exact=True)
        outcomes[name] = list(kept(ledger).values())
    (stays,) = outcomes["Relu"]
    assert (stays.units, stays.before.operator, stays.before.cause) == ("offset", "Relu", Cause.NONLINEAR)
    assert outcomes["MaxPool"] == []


def test_average_pool_that_counts_padded_zeros_holds_an_offset():
    for beta, n_kept in ((0, 0), (1, 1)):
        net = Net(Parameters(0, dyadic=True), {"x": ("N", C, 6, 6)})
        y = net.batchnorm("x", C, beta=beta, mean=0)
        y = net.node("AveragePool", [y], kernel_shape=[2, 2], pads=[1, 0, 1, 0], count_include_pad=1)
        _, ledger = check_fold(net.model(net.conv(y, C, 2)), net.feed(), exact=True)
        assert ledger.kept == n_kept
    (stays,) = kept(ledger).values()
    assert (stays.after.operator, stays.after.cause) == ("AveragePool", Cause.PADDING)


@pytest.mark.parametrize(("fill", "n_kept"), [(None, 1), (0.0, 1), (1.0, 1)])
def test_constant_pad_holds_an_offset(fill, n_kept):
    net = Net(Parameters(0, dyadic=True), {"x": ("N", C, 6, 6)})
    y = net.batchnorm("x", C, beta=1, mean=0)
    extra = [] if fill is None else [net.constant(fill)]
    y = net.node("Pad", [y, net.integers([0, 0, 1, 1, 0, 0, 1, 1]), *extra])
    _, ledger = check_fold(net.model(net.conv(y, C, 2)), net.feed(), exact=True)
    assert ledger.kept == n_kept
    (stays,) = kept(ledger).values()
    assert (stays.after.name, stays.after.cause) == ("pad_1", Cause.PADDING)
