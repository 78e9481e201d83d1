"""Graphs that an earlier fold got wrong, each reduced to its cause."""

from __future__ import annotations

import pytest
from fold_checks import check_fold, kept_reasons
from fold_models import Net, Parameters
from onnx import TensorProto, helper


def _net(*shape: int, **options) -> Net:
    return Net(Parameters(0, dyadic=False), {"x": ("N", *shape)}, **options)


@pytest.mark.parametrize("bias", [None, (4,)])
def test_gemm_with_beta_0_has_no_bias_to_put_an_offset_in(bias):
    net = _net(3)
    model = net.model(net.batchnorm(net.gemm("x", 3, 4, bias=bias, beta=0.0), 4))
    _, ledger = check_fold(model, net.feed())
    assert ledger.kept == 1


def test_default_epsilon_is_float32():
    """1e-5 in float64 and in float32 differ by 2.5e-8 of it: much, where the variance is small."""
    net = _net(3, 4, 4)
    model = net.model(net.batchnorm(net.conv("x", 3, 3), 3, epsilon=None, variance=[1e-7, 0.0, 1e-6]))
    _, ledger = check_fold(model, net.feed())
    assert ledger.absorbed == 1


@pytest.mark.parametrize("op_type", ["Add", "Mul", "Sub", "Div"])
def test_constant_that_broadcasts_its_data_stays(op_type):
    """One channel plus five constants is five channels: without the node there would be one."""
    net = _net(3, 4, 4)
    one = net.conv("x", 3, 1)
    five = net.node(op_type, [one, net.constant(net.parameters.factor(5, 1, 1))])
    model = net.model(net.conv(net.batchnorm(five, 5), 5, 2))
    folded, ledger = check_fold(model, net.feed())
    assert ledger.absorbed == 1
    assert op_type in [node.op_type for node in folded.graph.node]


def test_scalar_factor_between_conv_and_batchnorm():
    net = _net(3, 4, 4)
    half = net.node("Mul", [net.conv("x", 3, 3), net.constant(0.5)])
    model = net.model(net.node("Softmax", [net.batchnorm(half, 3)]))
    folded, ledger = check_fold(model, net.feed())
    assert ledger.absorbed == 1
    assert [node.op_type for node in folded.graph.node] == ["Conv", "Softmax"]


@pytest.mark.parametrize("swapped", [False, True])
def test_constant_times_an_input_that_has_a_default(swapped):
    """The data of the Mul is an initializer too, but may be fed: it is not the constant."""
    net = _net(3, 4, 4)
    data = net.constant(net.parameters.array(1, 3, 4, 4), "w")
    net.extra_inputs.append(helper.make_tensor_value_info("w", TensorProto.DOUBLE, (1, 3, 4, 4)))
    factor = net.constant(net.parameters.factor(3, 1, 1))
    scaled = net.node("Mul", [factor, data] if swapped else [data, factor])
    model = net.model(net.batchnorm(net.conv(scaled, 3, 2), 2), net.node("Relu", ["x"]))
    _, ledger = check_fold(model, net.feed())
    assert ledger.absorbed == 1


def test_names_of_new_values_are_free():
    """The graph holds the names that a new bias, its Add and their outputs would take."""
    net = _net(5, 3)
    product = net.node("MatMul", ["x", net.constant(net.parameters.array(3, 4))], name="fc")
    y = net.batchnorm(net.node("Transpose", [product], perm=[0, 2, 1]), 4)
    for name in ("fc.bias", "val_0", "fc.out_before_bias", "val_1"):
        net.nodes.append(helper.make_node("Relu", [y], [name], name=f"node_Add_{len(net.nodes)}"))
        y = name
    _, ledger = check_fold(net.model(y), net.feed())
    assert ledger.absorbed == 1
    assert kept_reasons(ledger) == {}
