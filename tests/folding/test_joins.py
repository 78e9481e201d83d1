"""BatchNorms and constants around sums, gates, joins, and other normalisations.

Derandomised, as in test_linear_operators: the same examples everywhere.
"""

from __future__ import annotations

import numpy as np
import pytest
from fold_checks import batchnorm_nodes, check_fold, held_by, kept, kept_causes
from fold_models import EPSILON, Net, Parameters
from hypothesis import given, settings
from hypothesis import strategies as st

from bnfold.records.causes import Cause, Holder, Refusal

examples = settings(max_examples=20, derandomize=True)
parameters = st.builds(
    Parameters,
    st.integers(0, 2**16),
    dyadic=st.booleans(),
    gammas=st.sampled_from(["positive", "mixed", "zeros", "tiny"]),
)
positive = st.builds(Parameters, st.integers(0, 2**16), dyadic=st.booleans(), gammas=st.just("positive"))
C = 4


def _net(p: Parameters, **options) -> Net:
    return Net(p, {"x": ("N", C, 5, 5)}, **options)


def _check(net: Net, *outputs: str, kept: int = 0) -> list[str]:
    folded, ledger = check_fold(net.model(*outputs), net.feed(), exact=net.parameters.dyadic)
    assert ledger.kept == kept, kept_causes(ledger)
    return [node.op_type for node in folded.graph.node]


@examples
@given(
    parameters,
    st.sampled_from(["Mul", "Div", "Add", "Sub"]),
    st.sampled_from([(C, 1, 1), (1, C, 1, 1), (), (1,), (1, 1, 1, 1)]),
    st.booleans(),
    st.booleans(),
)
def test_constant_per_channel_is_a_batchnorm_in_parts(p, op_type, shape, swapped, in_front):
    """Whatever the shape, the side and the operator, the linear operator takes it."""
    net = _net(p)
    constant = net.constant(p.factor(*shape))
    x = "x" if in_front else net.conv("x", C, C)
    operands = [constant, x] if swapped and op_type in ("Mul", "Add") else [x, constant]
    y = net.node(op_type, operands)
    assert _check(net, net.conv(y, C, C) if in_front else y) == ["Conv"]


@examples
@given(parameters, st.sampled_from([(5, 5), (1, C, 5, 5), (5, 1), (1, 1, 1, 5)]), st.sampled_from(["Add", "Mul"]))
def test_constant_over_space_stays_between_batchnorms_that_go(p, shape, op_type):
    net = _net(p)
    y = net.node(op_type, [net.batchnorm(net.conv("x", C, C), C), net.constant(p.factor(*shape))])
    assert _check(net, net.conv(y, C, 2)) == ["Conv", op_type, "Conv"]


@examples
@given(parameters)
def test_position_embedding_of_tokens(p):
    """K of shape (1, T, C): the scale goes on to the next layer, and K takes it along."""
    net = Net(p, {"x": ("N", 6, 5)})
    y = net.node("Add", [net.matmul("x", 5, C), net.constant(p.array(1, 6, C))])
    y = net.node("Transpose", [net.batchnorm(net.node("Transpose", [y], perm=[0, 2, 1]), C)], perm=[0, 2, 1])
    assert _check(net, net.matmul(y, C, 3)) == ["MatMul", "Add", "Transpose", "Transpose", "MatMul"]


def test_constant_minus_data_is_left():
    net = _net(Parameters(0, dyadic=True))
    y = net.node("Sub", [net.constant(1.0), net.conv("x", C, C)], name="flip")
    _, ledger = check_fold(net.model(net.conv(net.batchnorm(y, C), C, 2)), net.feed(), exact=True)
    assert ledger.absorbed == 1


@examples
@given(parameters, st.sampled_from(["Add", "Sub", "Sum"]))
def test_residual_block_with_batchnorm_in_both_branches(p, op_type):
    """3x3 and 5x5 from different sources: two convolutions are left, and their sum."""
    net = _net(p)
    left = net.batchnorm(net.conv("x", C, C, (3, 3), pads=[1] * 4), C)
    right = net.batchnorm(net.conv(net.node("Tanh", ["x"]), C, C, (1, 1)), C)
    p.dyadic = False
    left_over = _check(net, net.node("Softmax", [net.node(op_type, [left, right])]))
    assert sorted(left_over) == sorted(["Conv", "Tanh", "Conv", op_type, "Softmax"])


@examples
@given(positive, st.integers(2, 4))
def test_preactivation_residual_network_keeps_none(p, depth):
    """BN-ReLU-Conv with identity shortcuts: the offsets ride the residual stream."""
    net = _net(p)
    stream = net.conv("x", C, C)
    for _ in range(depth):
        hidden = net.node("Relu", [net.batchnorm(stream, C)])
        hidden = net.node("Relu", [net.batchnorm(net.conv(hidden, C, C, (3, 3), pads=[1] * 4), C)])
        stream = net.node("Add", [stream, net.conv(hidden, C, C)])
    y = net.node("GlobalAveragePool", [net.node("Relu", [net.batchnorm(stream, C)])])
    p.dyadic = False  # the mean over 25 pixels
    left = _check(net, net.gemm(net.node("Flatten", [y]), C, 3, bias=(3,)))
    assert left.count("Conv") == 2 * depth + 1


@examples
@given(positive)
def test_preactivation_with_a_projection_between_keeps_none(p):
    """Each BatchNorm has a stream of its own."""
    net = _net(p)
    y = "x"
    for _ in range(3):
        y = net.conv(net.node("Relu", [net.batchnorm(net.conv(y, C, C), C)]), C, C, (3, 3), pads=[1] * 4)
    assert _check(net, y).count("Conv") == 6


@examples
@given(parameters)
def test_concat_batchnorm(p):
    net = _net(p)
    joined = net.node("Concat", [net.conv("x", C, 2), net.conv("x", C, 3)], axis=1)
    assert _check(net, net.batchnorm(joined, 5)) == ["Conv", "Conv", "Concat"]


@examples
@given(parameters)
def test_concat_with_the_input_holds_its_channels(p):
    p.gammas = "mixed"
    net = _net(p)
    joined = net.node("Concat", [net.conv("x", C, 2), "x"], axis=1)
    _, ledger = check_fold(net.model(net.batchnorm(joined, 2 + C)), net.feed(), exact=p.dyadic)
    (stays,) = kept(ledger).values()
    assert (stays.units, stays.before) == ("scale", Holder(Cause.GRAPH_INPUT, "x"))


@examples
@given(parameters)
def test_squeeze_and_excite_between_conv_and_batchnorm(p):
    """The scale passes the gated stream; the offset cannot, unless it is 0."""
    net = _net(p)
    p.dyadic = False
    stream = net.conv("x", C, C)
    pooled = net.node("GlobalAveragePool", [stream])
    gate = net.node("Sigmoid", [net.conv(net.node("Relu", [net.conv(pooled, C, 2)]), 2, C)])
    y = net.node("Mul", [stream, gate] if p.rng.random() < 0.5 else [gate, stream])
    _check(net, net.conv(net.batchnorm(y, C), C, 3))


@examples
@given(parameters, st.sampled_from(["LayerNormalization", "InstanceNormalization", "GroupNormalization"]))
def test_batchnorm_behind_another_norm(p, op_type):
    net = Net(p, {"x": ("N", C, 6)}, opset=21)
    p.dyadic = False
    if op_type == "GroupNormalization":  # ONNX does not infer its shape; exporters state it
        net.stated["groupnormalization_0.out"] = ("N", C, 6)
    weights = [net.constant(p.factor(C)), net.constant(p.array(C))]
    options = {"num_groups": 2} if op_type == "GroupNormalization" else {}
    if op_type == "LayerNormalization":
        y = net.node(op_type, [net.node("Transpose", ["x"], perm=[0, 2, 1]), *weights], axis=-1)
        y = net.node("Transpose", [y], perm=[0, 2, 1])
    else:
        y = net.node(op_type, ["x", *weights], **options)
    assert "BatchNormalization" not in _check(net, net.batchnorm(y, C))


def test_batchnorm_in_front_of_a_norm_of_the_data_stays():
    net = Net(Parameters(0, dyadic=False), {"x": ("N", C, 6)})
    y = net.batchnorm("x", C)
    y = net.node("InstanceNormalization", [y, net.constant(np.ones(C)), net.constant(np.zeros(C))], name="norm")
    _, ledger = check_fold(net.model(y), net.feed())
    (stays,) = kept(ledger).values()
    assert stays.after == Holder(Cause.DATA_STATISTICS, "norm", "InstanceNormalization")


@pytest.mark.parametrize("op_type", ["Gelu", "Sigmoid", "HardSwish", "Softplus", "Elu"])
def test_batchnorm_between_two_curves_stays(op_type):
    net = _net(Parameters(0, dyadic=False))
    y = net.batchnorm(net.node(op_type, ["x"], name="before"), C)
    _, ledger = check_fold(net.model(net.node(op_type, [y], name="after")), net.feed())
    assert kept_causes(ledger) == {"batchnormalization_1": Cause.NONLINEAR}
    assert held_by(ledger) == ("before", "after")


def test_batchnorm_in_front_of_relu6_stays():
    net = _net(Parameters(0, dyadic=False))
    y = net.batchnorm(net.node("Relu", ["x"]), C, gamma=[1, 2, 3, 4])
    y = net.node("Clip", [y, net.constant(0.0), net.constant(6.0)], name="relu6")
    _, ledger = check_fold(net.model(net.conv(y, C, 2)), net.feed())
    (stays,) = kept(ledger).values()
    assert stays.after == Holder.refusing("Clip", "relu6", Refusal(Cause.NONLINEAR, "bounds"))


@examples
@given(positive)
def test_conv_relu6_takes_the_batchnorm_in_front(p):
    net = _net(p)
    y = net.batchnorm(net.conv("x", C, C), C)
    y = net.node("Clip", [y, net.constant(0.0), net.constant(6.0)])
    assert _check(net, net.conv(y, C, 2, (3, 3), pads=[1] * 4)) == ["Conv", "Clip", "Conv"]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_parameters_keep_their_type(dtype):
    """Each new parameter is the float64 result in its own type; these are exact in all three."""
    net = _net(Parameters(0, dyadic=True), dtype=dtype)
    unit = {"variance": 1 - EPSILON}  # 4 - EPSILON is not a float16
    y = net.batchnorm(net.conv("x", C, C, bias=False), C, **unit)
    y = net.batchnorm(net.conv(net.node("Relu", [y]), C, C), C, **unit)
    y = net.matmul(net.node("Transpose", [y], perm=[0, 2, 3, 1]), C, C)
    y = net.node("Add", [y, net.constant(net.parameters.array(C))])
    y = net.batchnorm(net.node("Transpose", [y], perm=[0, 3, 1, 2]), C, **unit)
    folded, ledger = check_fold(net.model(y), net.feed(), exact=True)
    assert ledger.absorbed == 3
    assert not batchnorm_nodes(folded.graph)
    assert {tensor.data_type for tensor in folded.graph.initializer} == {net.element_type}
