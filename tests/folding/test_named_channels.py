"""Operators that name a number of channels: what feeds them keeps its own, dead or not."""

from __future__ import annotations

import numpy as np
import pytest
from fold_checks import check_fold
from fold_models import Net, Parameters

from bnfold.folding.prune import remove_dead_channels
from bnfold.folding.trace import trace_channel_groups
from bnfold.graph.reading import read_model

C = 4
GAMMA = np.array([0.0, 1.0, 0.0, -2.0])


@pytest.mark.parametrize("sizes", [False, True])
def test_resize_to_sizes_keeps_its_channels(sizes):
    """Its fourth input holds the number of channels; absent, it holds nothing back."""
    net = Net(Parameters(0, dyadic=True), {"x": (2, C, 3, 3)})
    dead = net.node("Relu", [net.batchnorm(net.conv("x", C, C), C, gamma=GAMMA)])
    scales = net.tensor(np.array([1, 1, 2, 2], np.float32))
    inputs = [dead, "", "", net.integers([2, C, 6, 6])] if sizes else [dead, "", scales, ""]
    folded, _ = check_fold(net.model(net.conv(net.node("Resize", inputs), C, 3)), net.feed(), exact=True)
    weights = [tuple(tensor.dims) for tensor in folded.graph.initializer if len(tensor.dims) == 4]
    assert ((3, C, 1, 1) in weights) or not sizes


def test_slice_and_reshape_keep_their_channels():
    net = Net(Parameters(0, dyadic=True), {"x": (2, C, 3, 3)})
    dead = net.node("Relu", [net.batchnorm(net.conv("x", C, C), C, gamma=GAMMA)])
    y = net.node("Reshape", [dead, net.integers([2, 2, 2, 9])])
    y = net.node("Transpose", [net.node("Reshape", [y, net.integers([2, C, 9])])], perm=[0, 2, 1])
    folded, _ = check_fold(net.model(net.matmul(y, C, 3)), net.feed(), exact=True)
    assert any(tuple(tensor.dims) == (C, C, 1, 1) for tensor in folded.graph.initializer)


@pytest.mark.parametrize("gate_first", [False, True])
def test_a_gate_of_one_channel_holds_no_channels(gate_first):
    """0 times anything is 0: the channels that a ReLU has made 0 go, though the gate is one for all of them."""
    wide, live = 48, 16
    net = Net(Parameters(0, dyadic=False), {"x": ("N", wide, 2, 2)})
    gamma, beta = (np.arange(wide) % 3 == 0).astype(float), np.where(np.arange(wide) % 3 == 0, 0.5, -1.0)
    stream = net.node("Relu", [net.batchnorm(net.conv("x", wide, wide), wide, gamma=gamma, beta=beta)])
    gate = net.node("Sigmoid", [net.conv("x", wide, 1)])
    y = net.node("Mul", [gate, stream] if gate_first else [stream, gate])
    folded, _ = check_fold(net.model(net.conv(y, wide, 3)), net.feed())
    weights = [tuple(tensor.dims) for tensor in folded.graph.initializer if len(tensor.dims) == 4]
    assert (live, wide, 1, 1) in weights
    assert (3, live, 1, 1) in weights


@pytest.mark.parametrize(
    ("zero", "is_followed"), [((0, 0), False), ((0, 1), False), ((slice(None), 1), True), ((1, slice(None)), True)]
)
def test_channels_are_followed_only_where_one_may_be_dead(monkeypatch, zero, is_followed):
    """Zeros here and there make no channel constant: following all of a large graph would be for nothing."""
    net = Net(Parameters(0, dyadic=False), {"x": (2, C, 3, 3)})
    weight = np.ones((C, C, 1, 1))
    weight[zero] = 0
    model = read_model(net.model(net.conv(net.node("Conv", ["x", net.constant(weight)]), C, 3)))
    followed = []

    def traced(graph, opset):
        followed.append(graph)
        return trace_channel_groups(graph, opset)

    monkeypatch.setattr("bnfold.folding.prune.trace_channel_groups", traced)
    remove_dead_channels(model.graph, 20, 1, {})
    assert bool(followed) == is_followed
