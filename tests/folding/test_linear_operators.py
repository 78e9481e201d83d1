"""BatchNorm behind and in front of every linear operator, over the attributes the operator has.

Each property holds for dyadic parameters bit for bit, and for random ones to 1e-10 in float64. The examples are
derandomised: the same ones in every run and on every machine, so that a failure is a change of the code.
"""

from __future__ import annotations

from typing import Any

import onnx
import pytest
from fold_checks import check_fold, kept, kept_causes
from fold_models import EPSILON, Net, Parameters
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from bnfold.records.causes import Cause, Held, HeldSign, Holder, Refusal

examples = settings(max_examples=25, derandomize=True)
parameters = st.builds(
    Parameters,
    st.integers(0, 2**16),
    dyadic=st.booleans(),
    gammas=st.sampled_from(["positive", "mixed", "zeros", "tiny"]),
)
# The evaluator of ONNX before 1.23 has no recurrent operator in two directions: bnfold then asks for another reference.
ONNX = tuple(int(part) for part in onnx.__version__.split(".")[:2])
directions_of_recurrent = ["forward", "bidirectional"] if ONNX >= (1, 23) else ["forward"]
live = st.builds(Parameters, st.integers(0, 2**16), dyadic=st.booleans(), gammas=st.sampled_from(["positive", "mixed"]))


def absorbed(net: Net, *outputs: str) -> list[str]:
    """Check the fold, that every BatchNorm vanished, and return the operators left."""
    folded, ledger = check_fold(net.model(*outputs), net.feed(), exact=net.parameters.dyadic)
    assert kept_causes(ledger) == {}
    return [node.op_type for node in folded.graph.node]


def why_it_stays(net: Net, *outputs: str) -> Any:
    """Check the fold, that its one BatchNorm stayed, and return why."""
    _, ledger = check_fold(net.model(*outputs), net.feed(), exact=net.parameters.dyadic)
    (stays,) = kept(ledger).values()
    return stays


@st.composite
def conv_shapes(draw, *, padded: bool = True):
    """(spatial rank, input channels, output channels, attributes with the kernel) of a convolution."""
    rank = draw(st.integers(1, 3))
    group = draw(st.sampled_from([1, 2, 4]))
    c_in, c_out = group * draw(st.integers(1, 2)), group * draw(st.integers(1, 2))
    kernel = draw(st.lists(st.integers(1, 3), min_size=rank, max_size=rank))
    attributes = {
        "group": group,
        "strides": draw(st.lists(st.integers(1, 2), min_size=rank, max_size=rank)),
        "dilations": draw(st.lists(st.integers(1, 2), min_size=rank, max_size=rank)),
    }
    if padded:
        auto_pad = draw(st.sampled_from(["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]))
        if auto_pad == "NOTSET":
            attributes["pads"] = draw(st.lists(st.integers(0, 2), min_size=2 * rank, max_size=2 * rank))
        else:
            attributes["auto_pad"] = auto_pad
            attributes["dilations"] = [1] * rank  # runtimes disagree on SAME with dilations
    return rank, c_in, c_out, tuple(kernel), attributes


@examples
@given(parameters, conv_shapes(), st.booleans(), st.sampled_from([9, 13, 17, 20, 22]))
def test_batchnorm_behind_conv(p, shapes, bias, opset):
    rank, c_in, c_out, kernel, attributes = shapes
    net = Net(p, {"x": ("N", c_in, *(6, 5, 7)[:rank])}, opset=opset)
    y = net.conv("x", c_in, c_out, kernel, bias=bias, **attributes)
    assert absorbed(net, net.batchnorm(y, c_out)) == ["Conv"]


@examples
@given(parameters, conv_shapes(padded=False), st.booleans())
def test_batchnorm_in_front_of_unpadded_conv(p, shapes, bias):
    rank, c_in, c_out, kernel, attributes = shapes
    net = Net(p, {"x": ("N", c_in, *(6, 5, 7)[:rank])})
    y = net.conv(net.batchnorm("x", c_in), c_in, c_out, kernel, bias=bias, **attributes)
    assert absorbed(net, y) == ["Conv"]


@examples
@given(parameters, conv_shapes(), st.booleans())
def test_batchnorm_without_offset_in_front_of_padded_conv(p, shapes, bias):
    rank, c_in, c_out, kernel, attributes = shapes
    net = Net(p, {"x": ("N", c_in, *(6, 5, 7)[:rank])})
    y = net.conv(net.batchnorm("x", c_in, beta=0, mean=0), c_in, c_out, kernel, bias=bias, **attributes)
    assert absorbed(net, y) == ["Conv"]


def test_batchnorm_that_is_the_identity_vanishes_into_nothing():
    net = Net(Parameters(0, dyadic=True), {"x": ("N", 2, 5, 5)})
    y = net.batchnorm("x", 2, gamma=0.5, beta=1, mean=1, variance=0.25 - EPSILON)
    folded, ledger = check_fold(net.model(net.conv(y, 2, 3, (2, 2), pads=[1] * 4)), net.feed(), exact=True)
    (entry,) = ledger.entries
    assert (entry.outcome, entry.into) == ("absorbed", ())
    assert [node.op_type for node in folded.graph.node] == ["Conv"]


@examples
@given(live, st.sampled_from([{"pads": [0, 0, 1, 0]}, {"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"}]))
def test_batchnorm_with_offset_in_front_of_padded_conv_stays(p, padding):
    net = Net(p, {"x": ("N", 2, 5, 5)})
    y = net.conv(net.batchnorm("x", 2, beta=1, mean=0), 2, 3, (2, 2), **padding)
    assert why_it_stays(net, y).after == Holder(Cause.PADDING, "conv_1", "Conv")


@examples
@given(live)
def test_scale_in_front_of_padded_conv_may_move_to_the_batchnorm_behind_it(p):
    """The offset holds the first BatchNorm, not the second."""
    net = Net(p, {"x": ("N", 2, 5, 5)})
    y = net.conv(net.batchnorm("x", 2, beta=1, mean=0, name="first"), 2, 3, (3, 3), pads=[1] * 4)
    _, ledger = check_fold(net.model(net.batchnorm(y, 3, name="second")), net.feed(), exact=p.dyadic)
    assert list(kept(ledger)) == ["first"]


@examples
@given(parameters, conv_shapes(), st.booleans(), st.integers(0, 1), st.booleans())
def test_batchnorm_behind_conv_transpose(p, shapes, bias, output_padding, in_front):
    """Grouped too: the scale of an output channel lies on axis 1 of the weight, within its group."""
    rank, c_in, c_out, kernel, attributes = shapes
    if "pads" in attributes:
        attributes["pads"] = [min(pad, 1) for pad in attributes["pads"]]
        stride = zip(attributes["strides"], attributes["dilations"], strict=True)
        attributes["output_padding"] = [min(output_padding, max(pair) - 1) for pair in stride]
    net = Net(p, {"x": ("N", c_in, *(6, 5, 7)[:rank])})
    x = net.batchnorm("x", c_in, beta=0, mean=0) if in_front else "x"
    y = net.conv_transpose(x, c_in, c_out, kernel, bias=bias, **attributes)
    assert absorbed(net, net.batchnorm(y, c_out)) == ["ConvTranspose"]


@examples
@given(live, st.integers(1, 3))
def test_batchnorm_with_offset_in_front_of_conv_transpose(p, kernel):
    """Border pixels see fewer taps, except under a 1x1 kernel."""
    net = Net(p, {"x": ("N", 4, 5, 5)})
    y = net.conv_transpose(net.batchnorm("x", 4, beta=1, mean=0), 4, 6, (kernel, kernel), group=2)
    if kernel == 1:
        assert absorbed(net, y) == ["ConvTranspose"]
    else:
        assert why_it_stays(net, y).after == Holder(Cause.PADDING, "convtranspose_1", "ConvTranspose")


gemms = st.fixed_dictionaries(
    {"alpha": st.sampled_from([1.0, 0.5, -2.0]), "beta": st.sampled_from([1.0, 2.0, -0.5]), "transB": st.booleans()}
)
bias_shapes = st.sampled_from([None, (3,), (1, 3), (), (1,), (2, 3), (2, 1)])


@examples
@given(parameters, gemms, bias_shapes, st.sampled_from(["front", "behind", "both"]))
def test_batchnorm_around_gemm(p, attributes, bias, where):
    attributes["transB"] = int(attributes["transB"])
    net = Net(p, {"x": (2, 5)})
    x = "x" if where == "behind" else net.batchnorm("x", 5)
    y = net.gemm(x, 5, 3, bias=bias, **attributes)
    assert absorbed(net, y if where == "front" else net.batchnorm(y, 3)) == ["Gemm"]


def test_gemm_with_transposed_data_is_left():
    net = Net(Parameters(0, dyadic=False), {"x": (5, 2)})
    y = net.batchnorm(net.gemm("x", 5, 3, bias=(3,), transA=1), 3)
    transposed = Refusal(Cause.NO_RULE, "attribute value", "transA=1")
    assert why_it_stays(net, y).before == Holder.refusing("Gemm", "gemm_0", transposed)


@examples
@given(parameters, st.sampled_from([None, "left", "right"]), st.sampled_from(["front", "behind", "both"]))
def test_batchnorm_around_matmul_of_two_axes(p, bias, where):
    net = Net(p, {"x": ("N", 5)})
    y = net.matmul("x" if where == "behind" else net.batchnorm("x", 5), 5, 3)
    if bias is not None:
        constant = net.constant(p.array(3))
        y = net.node("Add", [constant, y] if bias == "left" else [y, constant])
    left = absorbed(net, y if where == "front" else net.batchnorm(y, 3))
    assert left in (["Gemm"], ["MatMul", "Add"])


@examples
@given(parameters, st.sampled_from([None, "left", "right"]), st.sampled_from(["front", "behind", "both"]))
def test_batchnorm_around_matmul_of_three_axes(p, bias, where):
    """Channels last: the BatchNorm stands between two Transposes."""
    net = Net(p, {"x": ("N", 4, 5)})
    y = "x"
    if where != "behind":
        y = net.node("Transpose", ["x"], perm=[0, 2, 1])
        y = net.node("Transpose", [net.batchnorm(y, 5)], perm=[0, 2, 1])
    y = net.matmul(y, 5, 3)
    if bias is not None:
        constant = net.constant(p.array(3))
        y = net.node("Add", [constant, y] if bias == "left" else [y, constant])
    if where != "front":
        y = net.node("Transpose", [net.batchnorm(net.node("Transpose", [y], perm=[0, 2, 1]), 3)], perm=[0, 2, 1])
    left = absorbed(net, y)
    assert left.count("Add") == 1
    assert left.count("MatMul") == 1


@examples
@given(parameters)
def test_linear_and_batchnorm_of_levit(p):
    """(N, T, C): linear over C, flattened to (N T, C), BatchNorm1d, and back."""
    net = Net(p, {"x": (2, 4, 5)})
    y = net.node("Reshape", [net.matmul("x", 5, 3), net.integers([8, 3])])
    y = net.node("Reshape", [net.batchnorm(y, 3), net.integers([2, 4, 3])])
    assert absorbed(net, y) == ["MatMul", "Add", "Reshape", "Reshape"]


@pytest.mark.parametrize("scale", ["uniform", "different"])
def test_linear_over_c_with_batchnorm_over_t_is_not_linear_batchnorm(scale):
    """T == C does not make the axes the same: only one scale for all positions can move into the weight."""
    net = Net(Parameters(0, dyadic=False), {"x": ("N", 4, 4)})
    y = net.node("Add", [net.matmul("x", 4, 4), net.constant(net.parameters.array(4))])
    changes = {"gamma": 2, "beta": 1, "mean": 0.5, "variance": 1} if scale == "uniform" else {}
    y = net.batchnorm(y, 4, **changes)
    if scale == "uniform":
        assert absorbed(net, y) == ["MatMul", "Add"]
    else:
        assert isinstance(why_it_stays(net, y), HeldSign | Held)


@examples
@given(parameters, st.sampled_from(["LSTM", "GRU", "RNN"]), st.booleans(), st.sampled_from(directions_of_recurrent))
def test_batchnorm_in_front_of_recurrent(p, op_type, bias, direction):
    gates, directions = {"LSTM": 4, "GRU": 3, "RNN": 1}[op_type], 1 + (direction == "bidirectional")
    p.dyadic = False  # the gates are not exact
    net = Net(p, {"x": (4, 2, 3)})
    y = net.node("Transpose", [net.batchnorm(net.node("Transpose", ["x"], perm=[1, 2, 0]), 3)], perm=[2, 0, 1])
    hidden = 2
    weights = [(directions, gates * hidden, 3), (directions, gates * hidden, hidden)]
    weights += [(directions, 2 * gates * hidden)] if bias else []
    inputs = [y, *(net.constant(p.array(*shape)) for shape in weights)]
    y = net.node(op_type, inputs, hidden_size=hidden, direction=direction)
    assert "BatchNormalization" not in absorbed(net, y)


@examples
@given(parameters, st.sampled_from([(2, 3), (4,)]))
def test_batchnorm_behind_embedding(p, indices):
    net = Net(p, {"x": ("N", 5)})
    net.extra_inputs.append(helper.make_tensor_value_info("tokens", TensorProto.INT64, indices))
    y = net.node("Gather", [net.constant(p.array(7, 5)), "tokens"])
    turn = (lambda v: net.node("Transpose", [v], perm=[0, 2, 1])) if len(indices) == 2 else (lambda v: v)
    y = net.node("Softmax", [turn(net.batchnorm(turn(y), 5))])
    p.dyadic = False
    feed = {**net.feed(), "tokens": p.rng.integers(0, 7, indices)}
    _, ledger = check_fold(net.model(y, net.node("Relu", ["x"])), feed)
    assert ledger.absorbed == 1
