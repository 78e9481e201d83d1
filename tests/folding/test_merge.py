"""Sums of convolutions of one tensor become one convolution, from the graph alone."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from fold_checks import check_fold
from fold_models import EPSILON, Net, Parameters
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from bnfold.export import graph_facts
from bnfold.folding import fold
from bnfold.folding.terms import Term, is_sum, terms_of_sum
from bnfold.graph.reading import read_model

C = 4
examples = settings(max_examples=12, derandomize=True)
parameters = st.builds(
    Parameters, st.integers(0, 2**16), dyadic=st.booleans(), gammas=st.sampled_from(["mixed", "zeros", "tiny"])
)


def _net(p: Parameters | None = None, shape: tuple = (C, 6, 6), **options) -> Net:
    return Net(p or Parameters(0, dyadic=False), {"x": ("N", *shape)}, **options)


def _source(net: Net) -> str:
    """A value whose units are pinned: nothing but the merge is in play."""
    return net.node("Abs", ["x"])


def _fold(net: Net, *outputs: str):
    """Fold, check, and see that the file takes no more multiply-adds and no more nodes."""
    model = net.model(*outputs)
    folded, ledger = check_fold(model, net.feed(), exact=net.parameters.dyadic)
    facts = graph_facts(model, folded)
    assert facts.macs_before is not None
    assert facts.macs_after is not None
    assert facts.macs_after <= facts.macs_before
    assert facts.nodes_after <= facts.nodes_before
    return folded, ledger


def _operators(folded: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in folded.graph.node]


def _attributes(folded: onnx.ModelProto) -> dict:
    """Those of the only convolution."""
    (node,) = (node for node in folded.graph.node if node.op_type == "Conv")
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _merges(net: Net, *outputs: str) -> dict:
    """All of it is one convolution behind the Abs; its attributes."""
    folded, ledger = _fold(net, *outputs)
    assert _operators(folded) == ["Abs", "Conv"]
    assert ledger.merged == ledger.found
    return _attributes(folded)


def _stays(net: Net, *outputs: str, sums: int = 1) -> None:
    folded, _ = _fold(net, *outputs)
    assert sum(op in ("Add", "Sub", "Sum") for op in _operators(folded)) == sums, _operators(folded)


# Blocks of known networks


@examples
@given(parameters, st.sampled_from([1, 2]), st.booleans())
def test_repvgg(p, stride, one_sum):
    """Ding et al. 2021, section 3.2: 3x3, 1x1 and, without a stride, the input itself, each with its BatchNorm."""
    net = _net(p)
    x = _source(net)
    strides = [stride, stride]
    wide = net.batchnorm(net.conv(x, C, C, (3, 3), bias=False, pads=[1] * 4, strides=strides), C)
    narrow = net.batchnorm(net.conv(x, C, C, bias=False, strides=strides), C)
    parts = [wide, narrow] if stride == 2 else [wide, narrow, net.batchnorm(x, C)]
    y = net.node("Sum", parts) if one_sum else parts[0]
    for part in [] if one_sum else parts[1:]:
        y = net.node("Add", [y, part])
    attributes = _merges(net, y)
    assert attributes["kernel_shape"] == [3, 3]
    assert attributes["pads"] == [1, 1, 1, 1]
    assert attributes["strides"] == strides
    assert attributes["group"] == 1


@examples
@given(parameters, st.integers(1, 4))
def test_mobileone(p, n_branches):
    """Vasu et al. 2022: several depthwise 3x3, a depthwise 1x1 and the input; the result is depthwise."""
    net = _net(p)
    x = _source(net)
    y = net.batchnorm(x, C)
    for kernel, pad in [((1, 1), 0), *[((3, 3), 1)] * n_branches]:
        branch = net.batchnorm(net.conv(x, C, C, kernel, bias=False, pads=[pad] * 4, group=C), C)
        y = net.node("Add", [branch, y])
    attributes = _merges(net, y)
    assert attributes["kernel_shape"] == [3, 3]
    assert attributes["group"] == C


@examples
@given(parameters, st.booleans())
def test_fastvit_token_mixer(p, on_the_left):
    """x + g (mix(x) - norm(x)), g the layer scale of Vasu et al. 2023."""
    net = _net(p)
    x = _source(net)
    mixed = net.node("Add", [net.batchnorm(net.conv(x, C, C, (3, 3), pads=[1] * 4, group=C), C), net.batchnorm(x, C)])
    scale = net.constant(p.factor(C, 1, 1))
    difference = net.node("Sub", [mixed, net.batchnorm(x, C)])
    scaled = net.node("Mul", [scale, difference] if on_the_left else [difference, scale])
    attributes = _merges(net, net.node("Add", [x, scaled]))
    assert attributes["group"] == C


@examples
@given(parameters, st.booleans())
def test_residual_of_a_convolution(p, input_first):
    net = _net(p)
    x = _source(net)
    y = net.batchnorm(net.conv(x, C, C, (3, 3), pads=[1] * 4), C)
    assert _merges(net, net.node("Add", [x, y] if input_first else [y, x]))["group"] == 1


@examples
@given(parameters, st.booleans())
def test_batchnorm_of_a_sum(p, one_source):
    """Its shift is added once, not once a term."""
    net = _net(p)
    x = _source(net)
    inner = net.node("Add", [net.conv(x, C, C, (3, 3), pads=[1] * 4), net.conv(x, C, C)])
    outer = net.node("Sub", [x if one_source else net.node("Floor", ["x"]), net.batchnorm(inner, C)])
    folded, _ = _fold(net, outer)
    assert _operators(folded) == (["Abs", "Conv"] if one_source else ["Abs", "Floor", "Conv", "Add"])


@examples
@given(parameters, st.sampled_from([[1, 1, 1, 1], [0, 0, 0, 0]]))
def test_average_pooling_beside_a_convolution(p, pads):
    net = _net(p)
    x = _source(net)
    pooled = net.node("AveragePool", [x], kernel_shape=[3, 3], pads=pads, count_include_pad=1)
    if p.dyadic:  # a ninth is not: nine times the mean is the sum
        pooled = net.node("Mul", [pooled, net.constant(0.0)])
    y = net.batchnorm(net.conv(x, C, C, (3, 3), pads=pads, group=C), C)
    assert _merges(net, net.node("Add", [net.batchnorm(pooled, C), y]))["group"] == C


# Kernels, padding, strides, dilations, groups, ranks


@examples
@given(parameters, st.data())
def test_any_two_convolutions_of_one_shape(p, data):
    """Even kernels, asymmetric padding, dilations, strides, groups: if they merge, then rightly."""
    net = _net(p, (C, 9))
    x = _source(net)
    stride, length = data.draw(st.integers(1, 2)), data.draw(st.integers(3, 6))
    branches = []
    for _ in range(data.draw(st.integers(2, 3))):
        kernel, dilation = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
        # The padding that gives `length` outputs: leading + trailing = room.
        room = (length - 1) * stride + dilation * (kernel - 1) + 1 - 9
        room += data.draw(st.integers(0, stride - 1))
        if room < 0:
            continue
        lead = data.draw(st.integers(0, room))
        group = data.draw(st.sampled_from([1, 2, C]))
        options = {"strides": [stride], "dilations": [dilation], "pads": [lead, room - lead], "group": group}
        branches.append(net.batchnorm(net.conv(x, C, C, (kernel,), **options), C))
    if len(branches) > 1:
        _fold(net, net.node("Sum", branches))


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [
        # kernel, pads, dilation of both; of their sum
        ((3, [1, 1], 1), (1, [0, 0], 1), (3, [1, 1], 1)),
        ((3, [2, 2], 2), (1, [0, 0], 1), (3, [2, 2], 2)),
        ((3, [4, 4], 4), (5, [4, 4], 2), (5, [4, 4], 2)),
        ((2, [0, 1], 1), (3, [1, 1], 1), (3, [1, 1], 1)),
        ((2, [1, 0], 1), (2, [0, 1], 1), (3, [1, 1], 1)),
        ((4, [1, 2], 1), (2, [0, 1], 1), (4, [1, 2], 1)),
        ((5, [4, 0], 1), (1, [0, 0], 1), (5, [4, 0], 1)),  # causal
    ],
)
def test_kernel_padding_and_dilation_of_the_sum(first, second, merged):
    net = _net(shape=(C, 9))
    x = _source(net)
    parts = [net.conv(x, C, C, (k,), pads=pads, dilations=[d]) for k, pads, d in (first, second)]
    attributes = _merges(net, net.node("Add", parts))
    assert (attributes["kernel_shape"], attributes["pads"], attributes["dilations"]) == (
        [merged[0]],
        merged[1],
        [merged[2]],
    )


@pytest.mark.parametrize("kernels", [((3, 1), (3, 2)), ((3, 2), (3, 3))])
def test_dilations_that_would_need_more_taps_stay(kernels):
    """Taps at -2, 0, 2 and -3, 0, 3 need seven in a row, which is more than three and three."""
    net = _net(shape=(C, 9))
    x = _source(net)
    parts = [net.conv(x, C, C, (k,), pads=[d * (k - 1) // 2] * 2, dilations=[d]) for k, d in kernels]
    merges = kernels == ((3, 1), (3, 2))  # -2 .. 2 are five, of six
    folded, _ = _fold(net, net.node("Add", parts))
    assert _operators(folded).count("Conv") == (1 if merges else 2)


def test_strides_with_different_paddings():
    """Seven positions at stride 2 are four outputs, with a zero behind them or without."""
    net = _net(shape=(C, 7))
    x = _source(net)
    parts = [net.conv(x, C, C, (k,), strides=[2], pads=pads) for k, pads in ((3, [1, 1]), (1, [0, 0]), (2, [0, 1]))]
    assert _merges(net, net.node("Sum", parts))["strides"] == [2]


def test_strides_that_differ_stay():
    net = _net(shape=(C, 7))
    x = _source(net)
    a = net.conv(x, C, C, (1,), strides=[2])
    b = net.conv(x, C, C, (4,))
    _stays(net, net.node("Add", [a, b]))


@pytest.mark.parametrize("shape", [(C, 7), (C, 5, 6), (C, 3, 4, 5)])
@pytest.mark.parametrize("group", [1, C])
def test_any_number_of_axes(shape, group):
    net = _net(shape=shape)
    x = _source(net)
    rank = len(shape) - 1
    wide = net.conv(x, C, C, (3,) * rank, pads=[1] * 2 * rank, group=group)
    y = net.batchnorm(net.conv(x, C, C, (1,) * rank, group=group), C)
    assert _merges(net, net.node("Sum", [wide, y, x]))["kernel_shape"] == [3] * rank


@pytest.mark.parametrize(("groups", "group"), [((C, C), C), ((2, C), 2), ((1, 2), 1), ((2, 1), 1)])
def test_groups_of_the_sum(groups, group):
    net = _net()
    x = _source(net)
    wide = net.conv(x, C, C, (3, 3), pads=[1] * 4, group=groups[0])
    folded, _ = _fold(net, net.node("Add", [wide, net.conv(x, C, C, group=groups[1])]))
    if group == groups[0]:
        assert _attributes(folded)["group"] == group
    else:
        assert _operators(folded).count("Conv") == 2  # the wide kernel would become denser


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("axes", [(6, 6), ("H", "W")])
def test_types_and_dynamic_axes(dtype, axes):
    net = _net(shape=(C, *axes), dtype=dtype)
    x = _source(net)
    y = net.batchnorm(net.conv(x, C, C, (3, 3), pads=[1] * 4), C)
    model = net.model(net.node("Add", [y, x]))
    if dtype == "float64":
        folded, ledger = check_fold(model, net.feed(6))
    else:
        folded, ledger = fold(model)
        assert {tensor.data_type for tensor in folded.graph.initializer} == {TensorProto.FLOAT16}
        onnx.checker.check_model(folded, full_check=True)
    assert ledger.merged == 1
    assert _operators(folded) == ["Abs", "Conv"]
    assert folded.graph.output[0] == model.graph.output[0]


# What is added to what


@pytest.mark.parametrize("op_type", ["Sub", "Add"])
@pytest.mark.parametrize("swapped", [False, True])
def test_only_terms_of_one_source_merge(op_type, swapped):
    """Where the merged terms are subtracted, the sign goes into their weights."""
    net = _net()
    x, z = _source(net), net.node("Sigmoid", ["x"])
    mixed = net.node("Add", [net.conv(x, C, C, (3, 3), pads=[1] * 4), x])
    other = net.node("Softmax", [z])
    folded, _ = _fold(net, net.node(op_type, [other, mixed] if swapped else [mixed, other]))
    join = "Add" if swapped else op_type
    assert sorted(_operators(folded)) == sorted(["Abs", "Sigmoid", "Softmax", "Conv", join])


@examples
@given(
    parameters, st.lists(st.sampled_from(["x", "z", "conv x", "conv z", "other"]), min_size=2, max_size=6), st.data()
)
def test_signs_and_sources_of_nested_sums(p, kinds, data):
    net = _net(p)
    sources = {"x": _source(net), "z": net.node("Floor", ["x"])}
    parts = []
    for kind in kinds:
        source = sources["z" if kind.endswith("z") else "x"]
        if kind.startswith("conv"):
            source = net.batchnorm(net.conv(source, C, C, (3, 3), pads=[1] * 4), C)
        parts.append(net.node("Ceil", [source]) if kind == "other" else source)
    while len(parts) > 1:
        at = data.draw(st.integers(0, len(parts) - 2))
        op_type = data.draw(st.sampled_from(["Add", "Sub", "Sum"]))
        parts[at : at + 2] = [net.node(op_type, parts[at : at + 2])]
    _fold(net, parts[0])


def test_difference_of_everything_is_one_convolution():
    net = _net()
    x = _source(net)
    a, b, c = (net.batchnorm(net.conv(x, C, C, (3, 3), pads=[1] * 4), C) for _ in range(3))
    _merges(net, net.node("Sub", [net.node("Sub", [a, x]), net.node("Sub", [b, net.node("Add", [x, c])])]))


@pytest.mark.parametrize("shape", [(), (1,), (C, 1, 1)])
def test_constant_added_first(shape):
    """Some exporters start a sum at 0."""
    net = _net()
    x = _source(net)
    started = net.node("Add", [net.constant(np.zeros(shape)), net.conv(x, C, C, (3, 3), pads=[1] * 4)])
    _merges(net, net.node("Add", [started, net.batchnorm(x, C)]))


def test_identities_on_the_way():
    net = _net()
    x = _source(net)
    y = net.node("Dropout", [net.node("Identity", [net.conv(x, C, C, (3, 3), pads=[1] * 4)])])
    folded, _ = _fold(net, net.node("Add", [y, net.batchnorm(x, C)]))
    assert _operators(folded).count("Conv") == 1
    assert "Add" not in _operators(folded)


def test_sum_of_many_keeps_one_sum():
    """A Sum of five, of which two merge, is no chain of Adds afterwards."""
    net = _net()
    x = _source(net)
    others = [net.node(op, ["x"]) for op in ("Sigmoid", "Softplus", "Erf")]
    folded, _ = _fold(net, net.node("Sum", [net.conv(x, C, C), net.conv(x, C, C), *others]))
    assert [op for op in _operators(folded) if op in ("Conv", "Sum", "Add")] == ["Conv", "Sum"]


def test_scales_of_one_source_become_a_mul_and_an_add():
    """A convolution of 1x1 would be one where there was none; these two may go themselves."""
    net = _net()
    x = _source(net)
    folded, ledger = _fold(net, net.node("Relu", [net.node("Add", [net.batchnorm(x, C), x])]))
    assert _operators(folded) == ["Abs", "Mul", "Add", "Relu"]
    assert ledger.merged == 1


def test_scales_of_one_source_go_into_the_next_convolution():
    net = _net()
    x = _source(net)
    folded, _ = _fold(net, net.conv(net.node("Sub", [net.batchnorm(x, C), x]), C, 2))
    assert _operators(folded) == ["Abs", "Conv"]


@pytest.mark.parametrize("op_type", ["GlobalAveragePool", "Floor"])
def test_other_term_may_broadcast_over_unknown_axes(op_type):
    net = _net(shape=(C, "H", "W"))
    x = _source(net)
    other = net.node(op_type, ["x"])
    y = net.node("Add", [net.node("Add", [net.conv(x, C, C, (3, 3), pads=[1] * 4), other]), x])
    folded, _ = check_fold(net.model(y), net.feed(5))
    assert sorted(_operators(folded)) == sorted(["Abs", op_type, "Conv", "Add"])
    assert onnx.shape_inference.infer_shapes(folded, strict_mode=True)


# What must not merge


def test_value_that_is_also_read_elsewhere_stays():
    """Its convolution is needed anyway: merging would compute it twice."""
    net = _net()
    x = _source(net)
    shared = net.conv(x, C, C, (3, 3), pads=[1] * 4)
    _stays(net, net.node("Add", [shared, net.node("Sigmoid", [shared])]))


def test_value_that_is_also_a_graph_output_stays():
    net = _net()
    x = _source(net)
    shared = net.batchnorm(net.conv(x, C, C, (3, 3), pads=[1] * 4), C)
    folded, ledger = _fold(net, net.node("Add", [shared, x]), shared)
    assert _operators(folded) == ["Abs", "Conv", "Add"]
    assert ledger.absorbed == 1


def test_inner_sum_that_is_also_read_elsewhere_is_a_source():
    net = _net()
    x = _source(net)
    inner = net.node("Add", [net.conv(x, C, C, (3, 3), pads=[1] * 4), x])
    outer = net.node("Add", [inner, net.conv(inner, C, C, (3, 3), pads=[1] * 4)])
    folded, _ = _fold(net, net.node("Softmax", [inner]), outer)
    assert _operators(folded).count("Conv") == 2
    assert "Add" not in _operators(folded)


@pytest.mark.parametrize(
    "attributes",
    [
        {"pads": [1] * 4},
        {"count_include_pad": 0, "pads": [1] * 4},
        {"count_include_pad": 1, "pads": [1] * 4, "ceil_mode": 1},
    ],
)
def test_average_with_a_divisor_that_varies_stays(attributes):
    net = _net()
    x = _source(net)
    pooled = net.node("AveragePool", [x], kernel_shape=[3, 3], **attributes)
    _stays(net, net.node("Add", [pooled, net.conv(x, C, C, (3, 3), pads=[1] * 4)]))


def test_average_alone_stays():
    """pool(x) - x as a convolution would be multiply-adds where there were only additions."""
    net = _net()
    x = _source(net)
    pooled = net.node("AveragePool", [x], kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)
    _stays(net, net.node("Sub", [pooled, x]))


def test_depthwise_beside_dense_stays():
    """A dense 3x3 takes nine times the multiply-adds of a dense 1x1."""
    net = _net()
    x = _source(net)
    _stays(net, net.node("Add", [net.conv(x, C, C), net.conv(x, C, C, (3, 3), pads=[1] * 4, group=C)]))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_what_pays_merges_beside_what_does_not(order):
    """Two depthwise 3x3 become one, and the dense 1x1 stays beside it, however they are added."""
    net = _net()
    x = _source(net)
    wide = [net.conv(x, C, C, (3, 3), pads=[1] * 4, group=C) for _ in range(2)]
    parts = [*wide, net.conv(x, C, C)]
    a, b, c = (parts[k] for k in order)
    folded, _ = _fold(net, net.node("Add", [net.node("Add", [a, b]), c]))
    assert sorted(_operators(folded)) == ["Abs", "Add", "Conv", "Conv"]


@pytest.mark.parametrize("axes", [(6, 6), ("H", "W")])
@pytest.mark.parametrize("shape", [(C, 1, 1), (1, 6, 6)])
def test_sum_that_broadcasts_stays(shape, axes):
    net = _net(shape=(C, *axes))
    x = _source(net)
    small = net.node("ReduceMean", [x, net.integers([1] if shape[0] == 1 else [2, 3])])
    folded, _ = check_fold(net.model(net.node("Add", [small, net.conv(x, C, C)])), net.feed(5))
    assert _operators(folded).count("Add") == 1


def test_weight_that_is_an_input_stays():
    net = _net()
    x = _source(net)
    weight = net.constant(net.parameters.array(C, C, 1, 1), "w")
    net.extra_inputs.append(helper.make_tensor_value_info("w", TensorProto.DOUBLE, (C, C, 1, 1)))
    _stays(net, net.node("Add", [net.node("Conv", [x, weight]), x]))


def test_automatic_padding_stays():
    net = _net()
    x = _source(net)
    _stays(net, net.node("Add", [net.conv(x, C, C, (3, 3), auto_pad="SAME_UPPER"), x]))


def test_sum_with_itself_stays():
    net = _net()
    y = net.conv(_source(net), C, C)
    _stays(net, net.node("Add", [y, y]))


def test_branch_of_the_outer_graph_is_not_moved_into_a_loop():
    """Inside, its convolution would be computed at every turn."""
    net = _net()
    x = _source(net)
    branch = net.batchnorm(net.conv(x, C, C, (3, 3), pads=[1] * 4), C)
    value = {k: helper.make_tensor_value_info(k, TensorProto.DOUBLE, ["N", C, 6, 6]) for k in ("state", "next")}
    flag = {k: helper.make_tensor_value_info(k, TensorProto.BOOL, []) for k in ("go", "on")}
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Add", [branch, x], ["sum"]),
            helper.make_node("Add", ["sum", "state"], ["next"]),
        ],
        "body",
        [helper.make_tensor_value_info("turn", TensorProto.INT64, []), flag["go"], value["state"]],
        [flag["on"], value["next"]],
    )
    turns, go = net.integers(3), net.tensor(np.array(True))
    looped = net.node("Loop", [turns, go, "x"], body=body)
    model = net.model(net.node("Reshape", [looped, net.integers([-1, C, 6, 6])]))
    folded, ledger = check_fold(model, net.feed())
    assert _operators(folded) == ["Abs", "Conv", "Loop", "Reshape"]
    assert ledger.absorbed == 1


def test_chain_of_sums_longer_than_the_stack_of_calls():
    net = _net(shape=(1, 2))
    x = _source(net)
    y = net.node("Sigmoid", ["x"])
    for _ in range(400):
        y = net.node("Add", [y, x])
    _fold(net, y)


# The account


def test_ledger_names_what_took_the_batchnorms():
    net = _net()
    x = _source(net)
    wide = net.batchnorm(net.conv(x, C, C, (3, 3), pads=[1] * 4), C, name="wide")
    narrow = net.batchnorm(net.conv(x, C, C), C, name="narrow")
    inner = net.node("Add", [wide, narrow], name="inner")
    y = net.node("Add", [inner, net.batchnorm(x, C, name="skip", variance=4 - EPSILON, gamma=3)], name="block")
    folded, ledger = _fold(net, y)
    assert {entry.name: (entry.outcome, entry.into) for entry in ledger.entries} == dict.fromkeys(
        ("wide", "narrow", "skip"), ("merged", ("block",))
    )
    assert {tensor.name for tensor in folded.graph.initializer} == {"block.weight", "block.bias"}
    assert next(entry for entry in ledger.entries if entry.name == "skip").max_abs_scale == 1.5


def test_output_keeps_its_name_and_shape():
    net = _net()
    x = _source(net)
    y = net.node("Add", [net.conv(x, C, C, (3, 3), pads=[1] * 4), x], name="last")
    folded, _ = _fold(net, y, x)
    assert [value.name for value in folded.graph.output] == [y, x]
    assert folded.graph.node[-1].output[0] == y


def test_a_long_way_of_identities_is_not_followed_to_its_end():
    """A value is described a few operators deep, whatever they are: a description of this one has no end in sight."""
    x = ir.Value(name="x", shape=ir.Shape([1, 2, 3]), type=ir.TensorType(ir.DataType.FLOAT))
    nodes, way = [], x
    for op_type in ["Identity"] * 1500 + ["Add"]:
        nodes.append(ir.node(op_type, [way] if op_type == "Identity" else [way, x]))
        way = nodes[-1].outputs[0]
        way.shape, way.type = x.shape, x.type
    graph = ir.Graph([x], [way], nodes=nodes, opset_imports={"": 20})
    terms = terms_of_sum(graph[-1])
    assert terms is not None
    assert [term.source is x for term in terms] == [False, True]


def _terms(net: Net, y: str) -> list[Term] | None:
    (output,) = read_model(onnx.shape_inference.infer_shapes(net.model(y))).graph.outputs
    return terms_of_sum(output.producer())


def test_sums_without_a_common_source_are_not_described():
    """What is described is computed: a ReLU, a value that others read, and a shared weight are no way to a source."""

    def net() -> Net:
        return Net(Parameters(0, dyadic=False), {"x": ("N", 4, 5, 5)})

    n = net()
    assert _terms(n, n.node("Add", [n.conv(n.node("Relu", ["x"]), 4, 4), n.conv("x", 4, 4)])) is None
    n = net()
    inner = n.conv("x", 4, 4)
    y = n.node("Add", [n.conv(inner, 4, 4), n.conv(n.conv("x", 4, 4), 4, 4)])
    n.node("Relu", [inner])
    assert _terms(n, y) is None
    n = net()
    w = n.constant(n.parameters.array(4, 4, 1, 1))
    assert _terms(n, n.node("Add", [n.node("Conv", [n.node("Relu", ["x"]), w]), n.node("Conv", ["x", w])])) is None
    n = net()
    assert _terms(n, n.node("Add", [n.conv("x", 4, 4), "x"])) is not None


def test_parameters_keep_their_names():
    net = Net(Parameters(0, dyadic=False), {"x": ("N", 4, 5, 5)})
    weight, bias = net.constant(net.parameters.array(3, 4, 1, 1), "w"), net.constant(net.parameters.array(3), "b")
    folded, _ = check_fold(net.model(net.batchnorm(net.node("Conv", ["x", weight, bias]), 3)), net.feed())
    assert sorted(tensor.name for tensor in folded.graph.initializer) == ["b", "w"]


@pytest.mark.parametrize(("other", "is_one"), [((2, 3, 4, 6, 5), True), ((2, 3, 5), False), ((1, 1, 4, 6, 5), False)])
def test_a_sum_is_of_tensors_of_one_rank(other, is_one):
    """(2, 3, 5) begins as the sum does, and yet is added along its last axes."""
    shapes = {"x": (2, 3, 4, 6, 5), "z": other}
    inputs = [ir.Value(name=n, shape=ir.Shape(s), type=ir.TensorType(ir.DataType.FLOAT)) for n, s in shapes.items()]
    node = ir.node("Add", inputs)
    node.outputs[0].shape = ir.Shape(shapes["x"])
    assert is_sum(node) == is_one


def test_a_sum_of_sums_is_followed_so_far_and_no_further():
    net = _net()
    x = _source(net)
    total = net.conv(x, C, C)
    for _ in range(40):
        total = net.node("Add", [total, net.conv(x, C, C)])
    terms = _terms(net, total)
    assert terms is not None
    assert len(terms) == 34  # those of 33 sums, and what lies deeper as one


def test_what_merged_is_told_by_the_names_of_its_layers():
    """Two sums, in the order of the graph; a branch that is added as it is has no layer."""
    text = """
    <ir_version: 10, opset_import: ["" : 18]>
    g (float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)
    <float[2, 2, 1, 1] "a.one.weight" = {1, 2, 3, 4}, float[2, 2, 1, 1] "a.two.weight" = {4, 3, 2, 1},
     float[2, 2, 1, 1] "b.conv.weight" = {1, 2, 3, 4}, float[2] "b.bn.weight" = {1, 2}, float[2] p = {1, 2}> {
      [one] a1 = Conv (x, "a.one.weight")
      [two] a2 = Conv (x, "a.two.weight")
      [first] a = Add (a1, a2)
      [abs] r = Abs (a)
      [three] b1 = Conv (r, "b.conv.weight")
      [norm] b2 = BatchNormalization (b1, "b.bn.weight", p, p, p)
      [second] s = Add (b2, r)
      [end] y = Abs (s)
    }"""
    _, ledger = fold(onnx.parser.parse_model(text))
    assert [(merged.layer, sorted(merged.branches)) for merged in ledger.merged_branches] == [
        ("first", ["a.one", "a.two"]),
        ("second", ["b.bn", "b.conv"]),
    ]
