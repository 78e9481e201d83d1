"""A channel of scale 0 whose input others read too: nothing can write its constant, its readers take it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fold_checks import check_fold, kept
from fold_models import Net, Parameters
from onnx import numpy_helper

from bnfold.records.causes import Cause, Holder

C = 3
both = pytest.mark.parametrize("dyadic", [False, True])


def _net(dyadic: bool) -> Net:
    return Net(Parameters(0, dyadic=dyadic), {"x": ("N", C, 6, 6)})


def _stream(net: Net, beta: float) -> tuple[str, str]:
    """A stream that someone else reads, and a BatchNorm of it whose channel 0 is the constant `beta`."""
    stream = net.conv("x", C, C)
    net.parameters.gammas = "positive"
    return stream, net.batchnorm(stream, C, gamma=[0.0, 1.0, 2.0], beta=[beta, 1.0, -1.0], name="bn")


def _fold(net: Net, dyadic: bool, *outputs: str) -> dict[str, Any]:
    _, ledger = check_fold(net.model(*outputs), net.feed(), exact=dyadic)
    return kept(ledger)


@both
@pytest.mark.parametrize("beta", [-2.0, 0.0, 2.0])
@pytest.mark.parametrize("activation", ["Relu", "Clip", "LeakyRelu", "Identity"])
def test_linear_reader_takes_the_constant(dyadic, beta, activation):
    net = _net(dyadic)
    stream, y = _stream(net, beta)
    options = {"alpha": 0.25} if activation == "LeakyRelu" else {}
    bounds = [net.constant(0.0)] if activation == "Clip" else []
    read = net.conv(net.node(activation, [y, *bounds], **options), C, 2, (3, 3))
    stayed = _fold(net, dyadic, read, net.conv(stream, C, 2))
    assert bool(stayed) == (activation == "LeakyRelu" and beta < 0)


@both
@pytest.mark.parametrize("beta", [-2.0, 0.0, 2.0])
def test_zero_padding_takes_nothing_but_0(dyadic, beta):
    net = _net(dyadic)
    stream, y = _stream(net, beta)
    read = net.conv(net.node("Relu", [y]), C, 2, (3, 3), pads=[1, 1, 1, 1])
    stayed = _fold(net, dyadic, read, net.conv(stream, C, 2))
    assert bool(stayed) == (beta > 0)
    assert all(stays.after == Holder(Cause.PADDING, "conv_3", "Conv") for stays in stayed.values())


@both
@pytest.mark.parametrize("beta", [-2.0, 2.0])
def test_readers_in_front_of_the_relu_and_behind_it(dyadic, beta):
    """Below 0 the two would take different constants for one channel."""
    net = _net(dyadic)
    stream, y = _stream(net, beta)
    outputs = net.conv(net.node("Relu", [y]), C, 2), net.conv(y, C, 2), net.conv(stream, C, 2)
    stayed = _fold(net, dyadic, *outputs)
    # With an offset on the stream the reader of y itself would be right, but the ReLU reads y as well: both at 0.
    assert bool(stayed) == (beta < 0)


@both
def test_max_with_a_constant_is_no_relu(dyadic):
    net = _net(dyadic)
    stream, y = _stream(net, 2.0)
    low = net.constant(np.full((C, 1, 1), 4.0))
    stayed = _fold(net, dyadic, net.conv(net.node("Max", [y, low]), C, 2), net.conv(stream, C, 2))
    assert list(stayed) == ["bn"]


@both
def test_pooling_behind_the_relu(dyadic):
    net = _net(dyadic)
    stream, y = _stream(net, 2.0)
    pooled = net.node("GlobalAveragePool", [net.node("MaxPool", [net.node("Relu", [y])], kernel_shape=[2, 2])])
    logits = net.gemm(net.node("Flatten", [pooled]), C, 2, bias=(2,))
    assert _fold(net, dyadic, logits, net.conv(stream, C, 2)) == {}


@both
def test_zeros_put_around_the_constant(dyadic):
    """A Pad with zeros in front of the reader is a border too."""
    net = _net(dyadic)
    stream, y = _stream(net, 2.0)
    padded = net.node("Pad", [net.node("Relu", [y]), net.integers([0, 0, 1, 1, 0, 0, 1, 1])])
    assert list(_fold(net, dyadic, net.conv(padded, C, 2, (3, 3)), net.conv(stream, C, 2))) == ["bn"]


def test_reader_ignores_the_channel():
    """The weights of the constant channel are 0, so that what the stream holds there does not come through."""
    net = _net(dyadic=True)
    stream, y = _stream(net, 2.0)
    read = net.node("Conv", [net.node("Relu", [y]), net.constant(net.parameters.array(2, C, 1, 1), "reader")])
    folded, _ = check_fold(net.model(read, net.conv(stream, C, 2)), net.feed(), exact=True)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in folded.graph.initializer}
    assert not weights["reader"][:, 0].any()
    assert weights["reader"][:, 1:].any()


@both
def test_nobody_reads_the_channel(dyadic):
    """It is not among those that a Gather picks, so that it may hold anything."""
    net = _net(dyadic)
    stream, y = _stream(net, 2.0)
    picked = net.node("Gather", [y, net.integers([1, 2])], axis=1)
    assert _fold(net, dyadic, net.conv(picked, 2, 2), net.conv(stream, C, 2)) == {}
