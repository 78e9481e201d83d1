"""BatchNorms of the values of an attention: weights that sum to 1 carry any units, others pin them."""

from __future__ import annotations

import pytest
from fold_checks import check_fold, kept, kept_causes
from fold_models import Net, Parameters
from hypothesis import given, settings
from hypothesis import strategies as st

from bnfold.records.causes import Cause, Holder

few = settings(max_examples=8, derandomize=True)
# Softmax rounds, so no parameters make the fold exact.
parameters = st.builds(
    Parameters, st.integers(0, 2**16), dyadic=st.just(False), gammas=st.sampled_from(["positive", "mixed", "zeros"])
)
N, C, HEADS = 5, 4, 3


def _net(p: Parameters, *, rank: int = 3, opset: int = 20) -> Net:
    """Values x (B, C, N), and what the weights (B, N, N) are computed from; with heads on axis 1 where rank is 4."""
    heads = (HEADS,) * (rank - 3)
    return Net(p, {"x": ("B", *heads, C, N), "scores": ("B", *heads, N, N)}, opset=opset)


def _turned(n: Net, x: str, rank: int = 3) -> str:
    return n.node("Transpose", [x], perm=[*range(rank - 2), rank - 1, rank - 2])


WRITTEN = {
    "weights @ values": lambda n, w, v: _turned(n, n.node("MatMul", [w, _turned(n, v)])),
    "values @ weights": lambda n, w, v: n.node("MatMul", [v, _turned(n, w)]),
    "behind dropout": lambda n, w, v: n.node("MatMul", [v, _turned(n, n.node("Dropout", [w]))]),
}


@few
@pytest.mark.parametrize("written", list(WRITTEN))
@given(p=parameters)
def test_relu_batchnorm_attention_linear(written, p):
    """The linear layer behind the mean takes the BatchNorm in front of it."""
    net = _net(p)
    values = net.batchnorm(net.node("Relu", ["x"]), C)
    y = WRITTEN[written](net, net.node("Softmax", ["scores"], axis=-1), values)
    _, ledger = check_fold(net.model(net.conv(y, C, 2, (1,))), net.feed())
    assert kept_causes(ledger) == {}


@few
@given(p=parameters)
def test_attention_batchnorm_with_heads(p):
    """Each head's channels take their part of a BatchNorm behind all of them."""
    net = _net(p, rank=4)
    x = net.node("Reshape", ["x", net.integers([0, HEADS * C, N])])
    values = net.node("Reshape", [net.conv(x, HEADS * C, HEADS * C, (1,)), net.integers([0, HEADS, C, N])])
    y = net.node("MatMul", [values, _turned(net, net.node("Softmax", ["scores"], axis=3), 4)])
    y = net.node("Reshape", [y, net.integers([0, HEADS * C, N])])
    _, ledger = check_fold(net.model(net.batchnorm(y, HEADS * C)), net.feed())
    assert kept_causes(ledger) == {}


OTHERS = {
    "no softmax": (20, lambda n: n.node("Sigmoid", ["scores"])),
    "softmax along the other axis": (20, lambda n: n.node("Softmax", ["scores"], axis=1)),
    "weights that sum to 1 the other way": (20, lambda n: _turned(n, n.node("Softmax", ["scores"], axis=-1))),
    "all axes together, as opset 12 has it": (12, lambda n: n.node("Softmax", ["scores"])),
}


@pytest.mark.parametrize("name", list(OTHERS))
def test_other_weights_pin_the_values(name):
    opset, weights = OTHERS[name]
    net = _net(Parameters(3, dyadic=False, gammas="positive"), opset=opset)
    values = net.batchnorm(net.node("Relu", ["x"]), C)
    y = net.node("MatMul", [weights(net), _turned(net, values)])
    _, ledger = check_fold(net.model(net.conv(_turned(net, y), C, 2, (1,))), net.feed())
    (stays,) = kept(ledger).values()
    assert (stays.after or stays.before).operator == "MatMul"


def test_a_batchnorm_behind_names_what_pins_the_values():
    net = _net(Parameters(5, dyadic=False, gammas="positive"))
    values = net.node("Sigmoid", ["x"], name="gate")
    y = WRITTEN["weights @ values"](net, net.node("Softmax", ["scores"], axis=-1), values)
    _, ledger = check_fold(net.model(net.node("Relu", [net.batchnorm(y, C)], name="act")), net.feed())
    (stays,) = kept(ledger).values()
    assert stays.before == Holder(Cause.NONLINEAR, "gate", "Sigmoid")
    assert stays.after.cause == Cause.GRAPH_OUTPUT


def test_a_constant_between_is_read_by_the_softmax_alone():
    """Values that are a constant have no units, and the weights keep theirs."""
    net = _net(Parameters(4, dyadic=False))
    values = net.constant(net.parameters.array(1, C, N))
    y = net.node("MatMul", [values, _turned(net, net.node("Softmax", [net.batchnorm("scores", N)], axis=-1))])
    _, ledger = check_fold(net.model(y), net.feed())
    (stays,) = kept(ledger).values()
    assert stays.after.operator == "Softmax"
