"""Graphs as other exporters write them: NHWC between transposes, decomposed BatchNorms, Caffe's BatchNorm and Scale."""

from __future__ import annotations

import numpy as np
import pytest
from fold_checks import check_fold
from fold_models import EPSILON, Net, Parameters

KERAS_EPSILON = 1e-3


def _net(*shape: int) -> Net:
    return Net(Parameters(0, dyadic=False, gammas="positive"), {"x": ("N", *shape)})


def _nhwc_conv(net: Net, x: str, c_in: int, c_out: int, kernel: int = 3) -> str:
    """As tf2onnx writes a Conv2D of Keras: to NCHW and back."""
    pads = [kernel // 2] * 4
    inside = net.node("Transpose", [x], perm=[0, 3, 1, 2])
    inside = net.conv(inside, c_in, c_out, (kernel, kernel), pads=pads)
    return net.node("Transpose", [inside], perm=[0, 2, 3, 1])


def _nhwc_batchnorm(net: Net, x: str, c: int) -> str:
    inside = net.node("Transpose", [x], perm=[0, 3, 1, 2])
    inside = net.batchnorm(inside, c, epsilon=KERAS_EPSILON)
    return net.node("Transpose", [inside], perm=[0, 2, 3, 1])


def test_conv_and_batchnorm_each_between_transposes():
    net = _net(6, 6, 3)
    x = net.node("Relu", [_nhwc_batchnorm(net, _nhwc_conv(net, "x", 3, 4), 4)])
    model = net.model(_nhwc_batchnorm(net, _nhwc_conv(net, x, 4, 5), 5))
    _, ledger = check_fold(model, net.feed())
    assert (ledger.absorbed, ledger.kept) == (2, 0)


def _batchnorm_in_parts(net: Net, x: str, shape: tuple[int, ...], *, divide: bool, computed: bool) -> str:
    """gamma (x - mean) / sqrt(variance + epsilon) + beta, the deviation as a constant or as three more operators."""
    gamma, beta, mean, variance = (array.reshape(shape) for array in net.parameters.batchnorm(max(shape)))
    if computed:
        sum_ = net.node("Add", [net.constant(variance), net.constant(EPSILON)])
        deviation = net.node("Sqrt", [sum_])
    else:
        deviation = net.constant(np.sqrt(variance + EPSILON))
    y = net.node("Sub", [x, net.constant(mean)])
    y = net.node("Div", [y, deviation]) if divide else net.node("Mul", [y, net.node("Reciprocal", [deviation])])
    y = net.node("Mul", [net.constant(gamma), y])
    return net.node("Add", [y, net.constant(beta)])


@pytest.mark.parametrize("divide", [False, True])
def test_computed_scale_and_shift_behind_a_conv(divide):
    """Nothing says any more that it was a BatchNorm."""
    net = _net(3, 6, 6)
    x = net.conv("x", 3, 4, (3, 3), pads=[1, 1, 1, 1], bias=False)
    x = net.node("Relu", [_batchnorm_in_parts(net, x, (1, 4, 1, 1), divide=divide, computed=False)])
    folded, ledger = check_fold(net.model(net.conv(x, 4, 5)), net.feed())
    assert [node.op_type for node in folded.graph.node] == ["Conv", "Relu", "Conv"]
    assert ledger.found == 0


def test_batchnorm_in_parts_in_front_of_a_linear_operator_in_nhwc():
    net = _net(6, 6, 3)
    x = net.node("Relu", [net.matmul("x", 3, 4)])
    x = _batchnorm_in_parts(net, x, (4,), divide=True, computed=True)
    folded, _ = check_fold(net.model(net.matmul(x, 4, 5)), net.feed())
    assert [node.op_type for node in folded.graph.node] == ["MatMul", "Relu", "MatMul", "Add"]


def test_caffe_splits_a_batchnorm_into_statistics_and_scale():
    net = _net(3, 6, 6)
    x = net.batchnorm(net.conv("x", 3, 4), 4, gamma=1.0, beta=0.0)
    x = net.node("Mul", [x, net.constant(net.parameters.factor(4, 1, 1))])
    x = net.node("Add", [x, net.constant(net.parameters.array(4, 1, 1))])
    folded, ledger = check_fold(net.model(net.node("Sigmoid", [x])), net.feed())
    assert [node.op_type for node in folded.graph.node] == ["Conv", "Sigmoid"]
    assert ledger.absorbed == 1


def test_keras_epsilon_is_a_hundred_times_pytorchs():
    """Variances of the size of epsilon: with another epsilon the result is another by a factor."""
    net = _net(3, 6, 6)
    model = net.model(net.batchnorm(net.conv("x", 3, 4), 4, epsilon=KERAS_EPSILON, variance=[1e-4, 1e-3, 1e-2, 0.0]))
    _, ledger = check_fold(model, net.feed())
    assert ledger.absorbed == 1
