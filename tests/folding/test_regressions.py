"""Graphs that an earlier fold got wrong, each reduced to its cause."""

from __future__ import annotations

import time

import numpy as np
import onnx_ir as ir
import pytest
from fold_checks import check_fold, held_by, kept, kept_causes
from fold_models import EPSILON, Net, Parameters
from onnx import TensorProto, helper
from random_graphs import calibrate

from bnfold.folding import fold, fold_model
from bnfold.records.causes import Cause, Refusal


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


def test_epsilon_of_an_exporters_graph_is_that_of_its_file():
    """In memory 1e-5 has float64 digits, in the file float32 ones: both must give the same parameters."""
    net = Net(Parameters(0, dyadic=False), {"x": ("N", 3, 4, 4)}, dtype="float32")
    batchnorm = net.batchnorm(net.conv("x", 3, 3), 3, epsilon=1e-5, variance=[1e-7, 0.0, 1e-6], name="bn")
    model = net.model(batchnorm)
    memory, file = ir.from_proto(model), ir.from_proto(model)
    node = next(node for node in memory.graph if node.op_type == "BatchNormalization")
    node.attributes["epsilon"] = ir.AttrFloat32("epsilon", 1e-5)
    ours, theirs = (fold_model(one).certificate.parameters[""] for one in (memory, file))
    assert list(ours) == list(theirs)
    assert len(ours) == 2
    for name, digits in theirs.items():
        np.testing.assert_array_equal(ours[name](np.empty(0)), digits(np.empty(0)), err_msg=name)


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
    assert kept_causes(ledger) == {}


def _dead(net: Net, x: str, **changes) -> str:
    """A BatchNorm whose channel 0 is the constant beta[0]."""
    return net.batchnorm(x, 3, gamma=[0.0, 1.0, 2.0], **changes)


def test_dead_channel_joined_with_a_live_one_in_space():
    """Concat along space gives both one class of units: the reader may not take the constant for the live half."""
    net = _net(3, 4, 4)
    joined = net.node("Concat", [_dead(net, net.node("Sigmoid", ["x"])), net.conv("x", 3, 3)], axis=3)
    model = net.model(net.conv(joined, 3, 2))
    check_fold(model, net.feed())


def test_two_dead_channels_with_different_constants_joined_in_space():
    net = _net(3, 4, 4)
    parts = [_dead(net, net.node(op, ["x"]), beta=beta) for op, beta in (("Sigmoid", [1, 2, 3]), ("Tanh", [5, 2, 3]))]
    model = net.model(net.conv(net.node("Concat", parts, axis=3), 3, 2))
    check_fold(model, net.feed())


@pytest.mark.parametrize("swapped", [False, True])
def test_dead_channel_read_from_a_conv_and_a_batchnorm_joined_in_space(swapped):
    """The conv could write the constant, the BatchNorm beside it has no one to."""
    net = _net(3, 4, 4)
    parts = [net.conv("x", 3, 3), net.batchnorm(net.node("Sigmoid", ["x"]), 3)]
    joined = net.node("Concat", parts[::-1] if swapped else parts, axis=3)
    model = net.model(net.node("Softmax", [_dead(net, joined)]))
    check_fold(model, net.feed())


def test_dead_channel_gathered_from_several_channels():
    """DepthToSpace makes one channel of four, and all four must hold the constant."""
    net = _net(3, 4, 4)
    shuffled = net.node("DepthToSpace", [net.conv("x", 3, 12)], blocksize=2)
    _, ledger = check_fold(net.model(_dead(net, shuffled)), net.feed())
    assert ledger.absorbed == 1


def test_mean_of_a_kept_batchnorm_takes_the_units_of_its_input():
    """The stream is stored at 1e-12 times its size: a mean left at 1 would take 12 of its digits."""
    net = _net(3, 4, 4)
    stream = net.conv("x", 3, 3)
    tiny = net.batchnorm(stream, 3, gamma=1e-12, beta=0, mean=0, name="tiny")
    model = net.model(tiny, net.batchnorm(stream, 3, name="other"))
    _, ledger = check_fold(model, net.feed())
    assert [entry.outcome for entry in ledger.entries] == ["absorbed", "kept"]


def test_offset_is_not_solved_for_through_a_gamma_of_1e_12():
    """All 16 columns of a channel share its offset: taken from the first, it would lose 12 digits for the others."""
    net = _net(3, 4, 4)
    stream = net.conv("x", 3, 3)
    gamma = np.ones(48)
    gamma[::16] = 1e-12
    hidden = net.matmul(net.batchnorm(net.node("Flatten", [stream]), 48, gamma=gamma), 48, 4)
    model = net.model(hidden, net.conv(stream, 3, 2))
    _, ledger = check_fold(model, net.feed())
    assert ledger.absorbed == 1


def test_offset_that_a_later_batchnorm_makes_too_large():
    """The first BatchNorm could put its offset behind itself, until the second, before an output, needs it at 0."""
    net = _net(3, 4, 4)
    stream = net.conv("x", 3, 3)
    tiny = net.batchnorm(stream, 3, gamma=1e-12, beta=[1, 2, 3], name="tiny")
    model = net.model(net.batchnorm(tiny, 3, name="last"), net.conv(stream, 3, 2))
    _, ledger = check_fold(model, net.feed())
    assert kept_causes(ledger)["tiny"] == Cause.CONDITIONING
    assert ledger.absorbed == 1


@pytest.mark.parametrize("shape", [("N", 3), ("N", 5, 3)])
@pytest.mark.parametrize("swapped", [False, True])
def test_offset_goes_into_the_add_that_is_there(shape, swapped):
    """A MatMul that gains a bias in front of an Add of a constant would be an operator more than before."""
    net = Net(Parameters(0, dyadic=False), {"x": shape})
    embedded = net.node("Tanh", ["x"])
    shifted = net.node("Add", [embedded, net.constant(net.parameters.array(3))])
    bias = net.constant(net.parameters.array(4))
    product = net.matmul(shifted, 3, 4)
    model = net.model(net.node("Add", [bias, product] if swapped else [product, bias]))
    folded, _ = check_fold(model, net.feed())
    assert [node.op_type for node in folded.graph.node] in (["Tanh", "MatMul", "Add"], ["Tanh", "Gemm"])


def test_batchnorm_between_batchnorms_of_which_the_last_is_dead():
    """Only once the first BatchNorm is gone is there a convolution that can write the constant."""
    net = _net(3, 4, 4)
    picked = net.node("Gather", [net.batchnorm(net.conv("x", 3, 3), 3), net.integers([0, 2])], axis=3)
    _, ledger = check_fold(net.model(_dead(net, picked)), net.feed())
    assert ledger.absorbed == 2


def test_sum_of_a_value_with_itself_is_no_convolution():
    net = _net(3, 4, 4)
    value = net.node("Tanh", ["x"])
    model = net.model(net.batchnorm(net.conv(net.node("Add", [value, value]), 3, 2), 2))
    folded, _ = check_fold(model, net.feed())
    assert [node.op_type for node in folded.graph.node] == ["Tanh", "Add", "Conv"]


def test_ledger_describes_the_source():
    """Scale and variance of the user's own parameters, whether they went or were rewritten."""
    net = _net(3, 4, 4)
    stream = net.batchnorm(net.conv("x", 3, 3), 3, gamma=[0, -6, 2], variance=4 - EPSILON, mean=0, name="first")
    net.batchnorm(net.node("Sigmoid", [stream]), 3, gamma=3, variance=1 - EPSILON, name="unread")
    last = net.batchnorm(net.node("Softmax", [stream]), 3, gamma=8, variance=1 - EPSILON, name="last")
    _, ledger = check_fold(net.model(last), net.feed())
    facts = {e.name: (e.outcome, e.max_abs_scale, e.min_var_over_eps, e.n_dead_channels) for e in ledger.entries}
    assert facts["first"] == ("absorbed", 3.0, (4 - EPSILON) / EPSILON, 1)
    assert facts["last"] == ("kept", 8.0, (1 - EPSILON) / EPSILON, 0)
    assert facts["unread"][0] == "removed"


def test_value_of_unknown_rank_keeps_its_units():
    """An operator of another domain says nothing of its output; the rules behind it read axes."""
    net = _net(3, 4, 4)
    net.nodes.append(helper.make_node("Strange", ["x"], ["strange"], domain="example.org"))
    turned = net.node("Transpose", ["strange"], perm=[0, 2, 3, 1])
    squeezed = net.node("Squeeze", [net.node("Slice", [turned, *(net.integers([v]) for v in (0, 1, 1))])])
    graph = helper.make_graph(
        [*net.nodes, helper.make_node("Relu", [squeezed], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["N", 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, ["N", 4, 3])],
        net.initializers,
    )
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("example.org", 1)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=10)
    folded, ledger = fold(model)
    assert ledger.found == 0
    assert [node.op_type for node in folded.graph.node] == [node.op_type for node in graph.node]


def test_shape_of_a_value_leaves_its_units_free():
    """`x.view(x.size(0), -1)`: the exporter reads the batch off the output of the BatchNorm."""
    net = _net(3, 4, 4)
    y = net.batchnorm(net.conv("x", 3, 2), 2)
    batch = net.node("Slice", [net.node("Shape", [y]), *(net.integers([v]) for v in (0, 1))])
    flat = net.node("Reshape", [y, net.node("Concat", [batch, net.integers([-1])], axis=0)])
    _, ledger = check_fold(net.model(net.gemm(flat, 32, 3, bias=None)), net.feed())
    assert ledger.absorbed == 1


def test_dead_channel_whose_shape_is_read():
    net = _net(3, 4, 4)
    y = net.batchnorm(net.conv("x", 3, 3), 3, gamma=[0, 1, 2])
    shape = net.node("Cast", [net.node("Shape", [y])], to=TensorProto.DOUBLE)
    check_fold(net.model(net.conv(y, 3, 2), shape), net.feed())


@pytest.mark.parametrize(("op_type", "holder"), [("Gelu", "gelu_0"), ("Identity", "x")])
def test_an_operator_behind_those_that_move_elements_is_named(op_type, holder):
    net = _net(3, 4, 4)
    moved = net.node("Transpose", [net.node(op_type, ["x"])], perm=[0, 1, 3, 2])
    _, ledger = check_fold(net.model(net.batchnorm(moved, 3, name="bn")), net.feed())
    assert held_by(ledger) == (holder, "bn.out")


def test_norm_whose_shape_nobody_states():
    """ONNX infers no shape for GroupNormalization of opset 21, and its output has no channels then."""
    net = _net(4, 6, opset=21)
    weights = [net.constant(net.parameters.factor(4)), net.constant(net.parameters.array(4))]
    norm = net.node("GroupNormalization", ["x", *weights], num_groups=2)
    net.stated[norm] = ("N", 4, 6)
    net.nodes.append(helper.make_node("Identity", [norm], ["y"]))
    model = net.model("y")
    del model.graph.value_info[:]
    check_fold(model, net.feed())


def test_reshape_and_resize_of_a_dynamic_batch():
    """ONNX gives the batch behind them a new name; the number of elements says that it is the same."""
    net = _net(3, 4, 4)
    y = net.node("Reshape", [net.conv("x", 3, 4), net.integers([-1, 2, 2, 4, 4])])
    y = net.node("Reshape", [net.node("Transpose", [y], perm=[0, 2, 1, 3, 4]), net.integers([-1, 4, 4, 4])])
    y = net.node("Resize", [y, "", net.tensor(np.array([1, 1, 2, 2], np.float32))], mode="nearest")
    _, ledger = check_fold(net.model(net.batchnorm(y, 4)), net.feed())
    assert ledger.absorbed == 1


def test_dead_batchnorm_behind_a_factor():
    """Once the factor is in the convolution, that can write the constant."""
    net = _net(3, 4, 4)
    scaled = net.node("Mul", [net.conv("x", 3, 3), net.constant(net.parameters.factor(3, 1, 1))])
    _, ledger = check_fold(net.model(_dead(net, scaled)), net.feed())
    assert ledger.absorbed == 1


def test_large_offset_behind_a_factor_is_one_in_front_of_it():
    """Only one operator reads the product, but the stream it is taken from has another reader."""
    net = _net(3, 4, 4)
    stream = net.conv("x", 3, 3)
    tiny = net.batchnorm(
        net.node("Mul", [stream, net.constant([[[2.0]], [[3.0]], [[4.0]]])]), 3, gamma=1e-12, name="tiny"
    )
    _, ledger = check_fold(net.model(tiny, net.batchnorm(stream, 3, name="other")), net.feed())
    assert "tiny" in kept_causes(ledger)


def test_second_round_knows_the_units_that_the_first_one_chose():
    """The first round stores the stream at 1e-12 of its size: a deviation of 1 would make every offset look small."""
    net = _net(2, 4, 4)
    stream = net.batchnorm(net.conv("x", 2, 2), 2, gamma=[2.0, 3.0], name="stream")
    small = net.batchnorm(stream, 2, gamma=1e-12, name="small")
    held = net.batchnorm(stream, 2, gamma=1e-12, beta=[-0.25, 0.5], name="held")
    factor = net.node("Mul", [net.conv("x", 2, 2), net.constant(2.0)])
    outputs = [net.conv(small, 2, 2), net.node("Gelu", [held]), net.conv(stream, 2, 2), factor]
    model = calibrate(net.model(*outputs), feed := net.feed())
    _, ledger = check_fold(model, feed, settled=False)
    assert "held" in kept_causes(ledger)


def test_picked_positions_that_may_be_fed():
    """The indices have a default, but another order may be fed: the BatchNorm cannot follow them."""
    net = _net(4, 5, 5)
    order = net.integers([2, 0, 3, 1])
    net.extra_inputs.append(helper.make_tensor_value_info(order, TensorProto.INT64, (4,)))
    picked = net.node("Gather", [net.conv("x", 4, 4), order], axis=1)
    _, ledger = check_fold(net.model(net.batchnorm(picked, 4)), net.feed())
    (stays,) = kept(ledger).values()
    assert stays.before.refusal == Refusal(Cause.NOT_CONSTANT, "positions")


def test_butterfly_of_sums_takes_linear_time():
    """Each level doubles the ways to an offset, not the work to solve for it."""
    net = _net(2, 5, 5)
    a, b = net.conv("x", 2, 2), net.conv("x", 2, 2)
    for _ in range(40):
        a, b = net.node("Add", [a, b]), net.node("Sub", [a, b])
    model = net.model(net.batchnorm(net.node("Add", [a, b]), 2))
    start = time.process_time()
    fold(model)
    assert time.process_time() - start < 20


def test_one_element_of_a_vector_is_a_scalar():
    net = _net(3, 4, 4)
    vector = net.node("ReduceMean", [net.conv("x", 3, 2), net.integers([1, 2, 3])], keepdims=0)
    scalar = net.node("Gather", [vector, net.integers(0)], axis=0)
    y = net.node("Mul", [net.batchnorm(net.conv("x", 3, 2), 2), scalar])
    _, ledger = check_fold(net.model(y), net.feed())
    assert ledger.absorbed == 1


@pytest.mark.parametrize("behind", ["BatchNormalization", "Transpose"])
def test_unknown_rank_in_a_graph_with_channels_of_scale_0(behind):
    """ONNX infers no shape of a GroupNormalization of opset 21 with a dynamic batch."""
    net = _net(4, 6, 6, opset=21)
    p = net.parameters
    y = net.node("GroupNormalization", ["x", net.constant(p.array(4)), net.constant(p.array(4))], num_groups=2)
    zeros = [1.0, 0.0, 1.0, 1.0]
    if behind == "Transpose":
        y = net.node("Mul", [net.node("Transpose", [y], perm=[0, 2, 3, 1]), net.constant(zeros)])
    else:
        y = net.batchnorm(y, 4, gamma=zeros)
    model = net.model()
    shape = ["N", 6, 6, 4] if behind == "Transpose" else ["N", 4, 6, 6]
    model.graph.output.append(helper.make_tensor_value_info(y, net.element_type, shape))
    check_fold(model, net.feed())


@pytest.mark.parametrize("position", [1, 2])
@pytest.mark.parametrize("dead", [False, True])
def test_parameter_that_is_an_output_too_stays(position, dead):
    net = _net(3, 5, 5)
    y = net.batchnorm(net.conv("x", 3, 4), 4, gamma=[0.0, 1.0, 2.0, 3.0] if dead else 2.0)
    y = net.conv(net.node("Relu", [y]), 4, 2)
    model = net.model(y)
    first, last = (node for node in model.graph.node if node.op_type == "Conv")
    shapes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    for node in (first, last):
        name = node.input[position]
        model.graph.output.append(helper.make_tensor_value_info(name, net.element_type, shapes[name]))
    check_fold(model, net.feed())


def test_a_batchnorm_of_no_channels_has_an_account():
    net = _net(0, 4, 4)
    folded, ledger = fold(net.model(net.batchnorm("x", 0)))
    (entry,) = ledger.entries
    assert (entry.outcome, entry.max_abs_scale, entry.min_var_over_eps) == ("absorbed", 0.0, np.inf)
    assert not folded.graph.initializer


def test_a_batchnorm_of_one_axis_stays():
    """ONNX lets it have one channel, and no axis for it."""
    net = Net(Parameters(0, dyadic=False), {"x": ("N",)})
    _, ledger = check_fold(net.model(net.batchnorm("x", 1)), net.feed())
    assert list(kept(ledger).values()) == [Refusal(Cause.UNKNOWN_SHAPE, "channels")]
