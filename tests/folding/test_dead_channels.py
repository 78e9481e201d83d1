"""Channels that are constant leave, with all that feeds them alone; their constant goes into biases.

Here they leave one by one (in blocks of 1); `test_channel_blocks.py` has the blocks.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from fold_checks import batchnorm_nodes, check_fold
from fold_models import Net, Parameters
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from bnfold.export import count_macs

C, DEAD = 4, 2
LEFT = C - DEAD
# Channels 0 and 2 are dead.
GAMMA = np.array([0.0, 1.0, 0.0, -2.0])
examples = settings(max_examples=12, derandomize=True)
parameters = st.builds(Parameters, st.integers(0, 2**16), dyadic=st.booleans())
both = pytest.mark.parametrize("dyadic", [False, True])


def _net(dyadic: bool = False, shape: tuple = (C, 6, 6), seed: int = 0) -> Net:
    return Net(Parameters(seed, dyadic=dyadic), {"x": ("N", *shape)})


def _dead(net: Net, x: str = "x", *, c_in: int = C, beta: object = None, **options) -> str:
    """A convolution and a BatchNorm that kills two of its four channels."""
    rank = len(net.inputs["x"]) - 2
    changes = {"gamma": GAMMA} | ({} if beta is None else {"beta": beta})
    return net.batchnorm(net.conv(x, c_in, C, options.pop("kernel", (1,) * rank), **options), C, **changes)


def _fold(net: Net, *outputs: str) -> onnx.ModelProto:
    model = net.model(*outputs)
    folded, _ = check_fold(model, net.feed(), exact=net.parameters.dyadic, channel_block=1)
    before, after = count_macs(model), count_macs(folded)
    assert before is not None
    assert after is not None
    assert after <= before
    again, _ = check_fold(folded, net.feed(), exact=net.parameters.dyadic, channel_block=1)
    assert _weights(again) == _weights(folded), "some more went the second time"
    return folded


def _weights(model: onnx.ModelProto) -> list[tuple[int, ...]]:
    """Shapes of the second inputs, which are weights, of linear operators, in order."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    linear = ("Conv", "Gemm", "MatMul", "ConvTranspose", "LSTM")
    return [shapes[node.input[1]] for node in model.graph.node if node.op_type in linear]


def _groups(model: onnx.ModelProto) -> list[int]:
    attributes = [{a.name: a.i for a in node.attribute} for node in model.graph.node if node.op_type == "Conv"]
    return [found.get("group", 1) for found in attributes]


# Through an activation into a convolution


@examples
@given(parameters, st.sampled_from(["Relu", "LeakyRelu", "Clip", "PRelu", "HardSigmoid", "Identity", "Dropout"]))
def test_constant_goes_into_the_next_bias(p, op_type):
    net = Net(p, {"x": ("N", C, 6, 6)})
    options = {"alpha": 0.25} if op_type in ("LeakyRelu", "HardSigmoid") else {}
    extra = {"Clip": ["", net.constant(1.0)], "PRelu": [net.constant(p.factor(C, 1, 1))]}.get(op_type, [])
    y = net.node(op_type, [_dead(net), *extra], **options)
    folded = _fold(net, net.conv(y, C, 3, (3, 3)))
    assert _weights(folded) == [(LEFT, C, 1, 1), (3, LEFT, 3, 3)]


@both
@pytest.mark.parametrize("beta", [-1.0, 0.0, 1.0])
def test_only_0_passes_a_padded_border(dyadic, beta):
    """Behind the ReLU, a shift of at most 0 is 0: as in the padding. Another constant is not what the border holds."""
    net = _net(dyadic)
    y = net.node("Relu", [_dead(net, beta=beta)])
    folded = _fold(net, net.conv(y, C, 3, (3, 3), pads=[0, 1, 0, 0]))
    left = C if beta > 0 else LEFT
    assert _weights(folded) == [(left, C, 1, 1), (3, left, 3, 3)]


@both
def test_only_0_passes_automatic_padding(dyadic):
    net = _net(dyadic)
    y = net.node("Relu", [_dead(net, beta=[1.0, 0.0, -1.0, 0.0])])
    folded = _fold(net, net.conv(y, C, 3, (3, 3), auto_pad="SAME_UPPER"))
    assert _weights(folded) == [(C - 1, C, 1, 1), (3, C - 1, 3, 3)]


@both
def test_one_output_channel(dyadic):
    """The head of a segmentation network: its weight is no depthwise one."""
    net = _net(dyadic)
    folded = _fold(net, net.conv(net.node("Relu", [_dead(net)]), C, 1))
    assert _weights(folded) == [(LEFT, C, 1, 1), (1, LEFT, 1, 1)]


def test_constant_over_several_layers():
    """A row that reads dead channels only is dead itself, and what fed it goes too."""
    net = _net()
    y = net.node("Relu", [_dead(net)])
    weight = net.parameters.array(3, C, 1, 1)
    weight[0, [1, 3]] = 0
    y = net.node("Relu", [net.node("Conv", [y, net.constant(weight), net.constant([0.5, 0.5, 0.5])])])
    folded = _fold(net, net.conv(y, 3, 2))
    assert _weights(folded) == [(LEFT, C, 1, 1), (2, LEFT, 1, 1), (2, 2, 1, 1)]


@pytest.mark.parametrize("alpha", [1.0, 0.5, -4.0])
def test_constant_through_a_gemm_into_a_bias(alpha):
    net = _net(True, (C,))
    weight = net.parameters.array(C, 3)
    weight[[1, 3], 0] = 0
    weight[[0, 2], 0] = 1
    y = net.node("Relu", [_bn_of_gemm(net)])
    y = net.node(
        "Relu", [net.node("Gemm", [y, net.constant(weight), net.constant([8.0, 1, 1])], alpha=alpha, beta=2.0)]
    )
    assert _weights(_fold(net, net.gemm(y, 3, 2, bias=(2,)))) == [(C, LEFT), (LEFT, 2), (2, 2)]


def _bn_of_gemm(net: Net) -> str:
    return net.batchnorm(net.gemm("x", C, C, bias=(C,)), C, gamma=GAMMA, beta=[1.0, 1, 2, 1])


def test_channel_that_no_one_reads():
    """The column is 0, not the row: what is in the channel does not matter."""
    net = _net()
    y = net.node("Relu", [net.conv(net.node("Relu", [net.conv("x", C, C)]), C, C)])
    weight = net.parameters.array(2, C, 3, 3)
    weight[:, 1] = 0
    folded = _fold(net, net.node("Conv", [y, net.constant(weight)], pads=[1] * 4))
    assert _weights(folded) == [(C, C, 1, 1), (C - 1, C, 1, 1), (2, C - 1, 3, 3)]


def test_batchnorm_that_nothing_linear_feeds():
    """What is dead behind a Sigmoid need not be computed before it."""
    net = _net()
    y = net.batchnorm(net.node("Sigmoid", [net.conv("x", C, C)]), C, gamma=GAMMA)
    folded = _fold(net, net.conv(y, C, 2, (3, 3)))
    assert _weights(folded) == [(LEFT, C, 1, 1), (2, LEFT, 3, 3)]


def test_kept_batchnorm_shrinks():
    net = _net()
    hidden = net.node("Relu", [net.conv("x", C, C)])
    y = net.node("Relu", [net.batchnorm(hidden, C, gamma=GAMMA, beta=[-1, 1, -2, 1])])
    folded = _fold(net, net.conv(y, C, 2, (3, 3), pads=[1] * 4))
    (node,) = batchnorm_nodes(folded.graph)
    sizes = {tensor.name: list(tensor.dims) for tensor in folded.graph.initializer}
    assert [sizes[name] for name in node.input[1:]] == [[LEFT]] * 4
    assert _weights(folded) == [(LEFT, C, 1, 1), (2, LEFT, 3, 3)]


# Through pooling, layout, depthwise convolutions


@both
@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("MaxPool", {"kernel_shape": [3, 3], "pads": [1] * 4}),
        ("AveragePool", {"kernel_shape": [2, 2]}),
        ("AveragePool", {"kernel_shape": [2, 2], "pads": [1] * 4}),
        ("GlobalAveragePool", {}),
        ("GlobalMaxPool", {}),
        ("Transpose", {"perm": [0, 1, 3, 2]}),
    ],
)
def test_pooling(dyadic, op_type, attributes):
    net = _net(dyadic, (C, 4, 4))
    y = net.node(op_type, [net.node("Relu", [_dead(net, beta=[2.0, 1, -1, 1])])], **attributes)
    if dyadic and attributes.get("pads") and op_type == "AveragePool":
        return  # it divides by the number of true cells, which is no power of two everywhere
    assert _weights(_fold(net, net.conv(y, C, 3))) == [(LEFT, C, 1, 1), (3, LEFT, 1, 1)]


@pytest.mark.parametrize("beta", [-1.0, 1.0])
@pytest.mark.parametrize("op_type", ["AveragePool", "Pad"])
def test_only_0_passes_zeros_that_are_counted(op_type, beta):
    net = _net()
    y = net.node("Relu", [_dead(net, beta=beta)])
    if op_type == "Pad":
        y = net.node("Pad", [y, net.integers([0, 0, 1, 0, 0, 0, 1, 1])])
    else:
        y = net.node("AveragePool", [y], kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)
    left = C if beta > 0 else LEFT
    assert _weights(_fold(net, net.conv(y, C, 3))) == [(left, C, 1, 1), (3, left, 1, 1)]


@both
def test_upsampling(dyadic):
    net = _net(dyadic)
    scales = net.tensor(np.array([1, 1, 2, 2], np.float32))
    y = net.node("Resize", [net.node("Relu", [_dead(net)]), "", scales], mode="nearest")
    assert _weights(_fold(net, net.conv(y, C, 3))) == [(LEFT, C, 1, 1), (3, LEFT, 1, 1)]


@both
@pytest.mark.parametrize("how", ["Flatten", "Reshape"])
@pytest.mark.parametrize("linear", ["Gemm", "transB", "MatMul"])
def test_flatten(dyadic, how, linear):
    """Each channel is 6 rows of the next weight; another constant than 0 needs a bias to go to."""
    net = _net(dyadic, (C, 3, 2))
    y = net.node("Relu", [_dead(net, beta=[2.0, 1, -1, 1])])
    y = net.node(how, [y] if how == "Flatten" else [y, net.integers([-1, 6 * C])])
    if linear == "MatMul":
        out = net.matmul(y, 6 * C, 3)
    else:
        out = net.gemm(y, 6 * C, 3, bias=(3,), transB=int(linear == "transB"), alpha=0.5, beta=2.0)
    left = 3 if linear == "MatMul" else LEFT
    wanted = (3, 6 * left) if linear == "transB" else (6 * left, 3)
    assert _weights(_fold(net, out)) == [(left, C, 1, 1), wanted]


@both
def test_flatten_of_what_is_flat_already(dyadic):
    net = _net(dyadic, (C,))
    weight = net.parameters.array(C, C)
    weight[:, 1] = 0
    y = net.node("Relu", [net.node("Gemm", ["x", net.constant(weight), net.constant([0.5])])])
    assert _weights(_fold(net, net.gemm(net.node("Flatten", [y]), C, 2, bias=None))) == [(C, C - 1), (C - 1, 2)]


@both
def test_gemm_with_one_bias_for_all(dyadic):
    net = _net(dyadic, (C,))
    weight = net.parameters.array(C, C)
    weight[:, 1] = 0
    y = net.node("Relu", [net.node("Gemm", ["x", net.constant(weight), net.constant([0.5])])])
    assert _weights(_fold(net, net.gemm(y, C, 2, bias=None))) == [(C, C - 1), (C - 1, 2)]


@both
@pytest.mark.parametrize("beta", [-1.0, 1.0])
@pytest.mark.parametrize("pad", [0, 1])
def test_depthwise(dyadic, beta, pad):
    """It writes a constant where it reads one, but for a border of zeros; `group` follows."""
    net = _net(dyadic)
    y = net.node("Relu", [_dead(net, beta=beta)])
    y = net.node("Relu", [net.conv(y, C, C, (3, 3), group=C, pads=[pad] * 4)])
    folded = _fold(net, net.conv(y, C, 3))
    left = C if pad and beta > 0 else LEFT
    assert _weights(folded) == [(left, C, 1, 1), (left, 1, 3, 3), (3, left, 1, 1)]
    assert _groups(folded) == [1, left, 1]


@both
def test_batchnorm_behind_a_depthwise_convolution(dyadic):
    """An inverted residual: its expansion shrinks with the depthwise convolution."""
    net = _net(dyadic)
    y = net.node("Relu", [net.batchnorm(net.conv("x", C, C), C)])
    y = net.node("Relu", [net.batchnorm(net.conv(y, C, C, (3, 3), group=C, pads=[1] * 4), C, gamma=GAMMA)])
    folded = _fold(net, net.batchnorm(net.conv(y, C, 3), 3))
    assert _weights(folded) == [(LEFT, C, 1, 1), (LEFT, 1, 3, 3), (3, LEFT, 1, 1)]
    assert _groups(folded) == [1, LEFT, 1]


# Joins


@pytest.mark.parametrize("gate", ["Sigmoid", "HardSigmoid"])
def test_squeeze_excite(gate):
    """A channel that is 0 is 0 times its gate: the gate's own channel goes too."""
    net = _net()
    y = net.node("Relu", [_dead(net, beta=-1.0)])
    squeezed = net.node("Relu", [net.conv(net.node("GlobalAveragePool", [y]), C, 3)])
    y = net.node("Mul", [y, net.node(gate, [net.conv(squeezed, 3, C)])])
    folded = _fold(net, net.conv(y, C, 2, (3, 3), pads=[1] * 4))
    assert _weights(folded) == [(LEFT, C, 1, 1), (3, LEFT, 1, 1), (LEFT, 3, 1, 1), (2, LEFT, 3, 3)]


@both
@pytest.mark.parametrize("all_dead", [False, True])
@pytest.mark.parametrize("op_type", ["Add", "Sub"])
def test_residual_stream(dyadic, all_dead, op_type):
    """A channel of a sum is dead only if all that write it are."""
    net = _net(dyadic)
    stem = _dead(net)
    branch = net.conv(net.node("Relu", [stem]), C, C)
    y = net.node(op_type, [stem, net.batchnorm(branch, C, gamma=GAMMA if all_dead else 1.0)])
    folded = _fold(net, net.conv(net.node("Relu", [y]), C, 3))
    left = LEFT if all_dead else C
    assert _weights(folded)[0] == (left, C, 1, 1)
    assert _weights(folded)[-1] == (3, left, 1, 1)


@both
def test_concat(dyadic):
    net = _net(dyadic)
    y = net.node("Concat", [net.node("Relu", [_dead(net)]), net.conv("x", C, 3), _dead(net)], axis=1)
    assert _weights(_fold(net, net.conv(y, 2 * C + 3, 2))) == [
        (LEFT, C, 1, 1),
        (3, C, 1, 1),
        (LEFT, C, 1, 1),
        (2, 2 * LEFT + 3, 1, 1),
    ]


@both
def test_concat_of_a_value_with_itself(dyadic):
    net = _net(dyadic)
    y = net.node("Relu", [_dead(net)])
    folded = _fold(net, net.conv(net.node("Concat", [y, y], axis=1), 2 * C, 2))
    assert _weights(folded) == [(LEFT, C, 1, 1), (2, 2 * LEFT, 1, 1)]


@pytest.mark.parametrize("behind", ["conv", "GlobalAveragePool", "MaxPool"])
@pytest.mark.parametrize("dead_first", [False, True])
@pytest.mark.parametrize("other", ["live", "another constant", "same constant"])
def test_concat_along_space(behind, dead_first, other):
    """One channel is now made of two, and constant only if both hold the same."""
    net = _net()
    betas = {"another constant": 2.0, "same constant": 1.0}
    second = net.conv("x", C, C) if other == "live" else _dead(net, beta=betas[other])
    parts = [_dead(net, beta=1.0), second]
    y = net.node("Concat", parts if dead_first else parts[::-1], axis=3)
    if behind != "conv":
        y = net.node(behind, [y], **({"kernel_shape": [1, 2]} if behind == "MaxPool" else {}))
    folded = _fold(net, net.conv(y, C, 2))
    left = LEFT if other == "same constant" else C
    assert _weights(folded) == [(left, C, 1, 1), (left, C, 1, 1), (2, left, 1, 1)]


@both
def test_two_readers(dyadic):
    """Both take the constant; if one of them pads, neither can do without the channel."""
    for pads, left in (([0] * 4, LEFT), ([1] * 4, C)):
        net = _net(dyadic)
        y = net.node("Relu", [_dead(net, beta=1.0)])
        folded = _fold(net, net.conv(y, C, 3), net.conv(y, C, 2, (3, 3), pads=pads))
        assert _weights(folded) == [(left, C, 1, 1), (3, left, 1, 1), (2, left, 3, 3)]


# What must stay


@both
def test_one_channel_remains(dyadic):
    net = _net(dyadic)
    y = net.node("Relu", [net.batchnorm(net.conv("x", C, C), C, gamma=0.0)])
    y = net.node("Relu", [net.conv(y, C, C, (3, 3), group=C)])
    folded = _fold(net, net.conv(y, C, 3))
    assert _weights(folded) == [(1, C, 1, 1), (1, 1, 3, 3), (3, 1, 1, 1)]
    assert _groups(folded) == [1, 1, 1]


@both
@pytest.mark.parametrize("also_read", [False, True])
def test_channels_of_outputs_stay(dyadic, also_read):
    net = _net(dyadic)
    y = net.node("Relu", [_dead(net)])
    model_outputs = [y, net.conv(y, C, 2)] if also_read else [y]
    folded = _fold(net, *model_outputs)
    assert _weights(folded)[0] == (C, C, 1, 1)
    assert [d.dim_value for d in folded.graph.output[0].type.tensor_type.shape.dim][1:] == [C, 6, 6]


@pytest.mark.parametrize("linear", ["multiplier", "ConvTranspose", "input weight"])
def test_reader_that_is_not_followed_keeps_its_channels(linear):
    net = _net()
    y = net.node("Relu", [_dead(net)])
    if linear == "ConvTranspose":
        y = net.conv_transpose(y, C, 2, (2, 2), strides=[2, 2])
    elif linear == "input weight":
        weight = net.constant(net.parameters.array(2, C, 1, 1), "w")
        net.extra_inputs.append(helper.make_tensor_value_info("w", net.element_type, (2, C, 1, 1)))
        y = net.node("Conv", [y, weight])
    else:
        y = net.conv(y, C, 2 * C, group=C)
    assert _weights(_fold(net, y))[0] == (C, C, 1, 1)


def test_recurrent_reader_keeps_its_channels():
    net = Net(Parameters(0, dyadic=False), {"x": (5, 2, C)})
    weight = net.parameters.array(C, C)
    weight[:, 1] = 0
    y = net.node("Relu", [net.matmul("x", C, C)])
    y = net.node("Relu", [net.node("MatMul", [y, net.constant(weight)])])
    w, r = net.constant(net.parameters.array(1, 12, C)), net.constant(net.parameters.array(1, 12, 3))
    y = net.node("LSTM", [y, w, r], hidden_size=3)
    folded, _ = check_fold(net.model(y), net.feed(), channel_block=1)
    assert _weights(folded) == [(C, C), (C, C), (1, 12, C)]


def test_slice_keeps_its_channels():
    """It picks channels by position."""
    net = _net()
    y = net.node("Slice", [net.node("Relu", [_dead(net)]), *(net.integers([v]) for v in (1, 4, 1))])
    assert _weights(_fold(net, net.conv(y, 3, 2)))[0] == (C, C, 1, 1)


def test_mean_over_channels_keeps_them():
    """It divides by their number."""
    net = _net()
    y = net.node("ReduceMean", [net.node("Relu", [_dead(net)]), net.integers([1])])
    assert _weights(_fold(net, net.conv(y, 1, 2)))[0] == (C, C, 1, 1)


def test_shared_weight_is_not_cut_for_its_other_user():
    net = _net()
    shared = net.constant(net.parameters.array(C, C, 1, 1))
    y = net.node("Relu", [net.node("Conv", [net.node("Relu", [_dead(net)]), shared])])
    folded = _fold(net, net.node("Relu", [net.node("Conv", ["x", shared])]), y)
    assert sorted(_weights(folded)) == [(LEFT, C, 1, 1), (C, LEFT, 1, 1), (C, C, 1, 1)]


def test_float16_stays_float16():
    net = Net(Parameters(0, dyadic=True), {"x": ("N", C, 4, 4)}, dtype="float16")
    y = net.node("Relu", [net.batchnorm(net.conv("x", C, C), C, gamma=GAMMA, variance=1.0, epsilon=0.0)])
    folded, _ = check_fold(net.model(net.conv(y, C, 2)), net.feed(), exact=True, channel_block=1)
    assert {numpy_helper.to_array(tensor).dtype for tensor in folded.graph.initializer} == {np.dtype("float16")}
    assert _weights(folded) == [(LEFT, C, 1, 1), (2, LEFT, 1, 1)]
