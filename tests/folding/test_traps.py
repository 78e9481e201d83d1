"""What a fold must notice: shared weights, outputs, inputs, subgraphs, functions, training mode, old opsets."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from fold_checks import assert_equal, assert_valid, batchnorm_nodes, check_fold, held_by, kept, kept_causes
from fold_models import EPSILON, Net, Parameters
from onnx import TensorProto, helper

from bnfold.errors import InputRefused
from bnfold.folding import fold
from bnfold.records.causes import Cause, Holder, Refusal

C = 3
UNIT = {"gamma": 1, "beta": 0, "mean": 0, "variance": 1 - EPSILON}


def _net(*, dyadic: bool = True, seed: int = 0, **options) -> Net:
    return Net(Parameters(seed, dyadic=dyadic), {"x": ("N", C, 4, 4)}, **options)


def _types(folded: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in folded.graph.node]


def test_weight_shared_by_two_convs_with_different_batchnorms():
    """Each gets its own weight."""
    net = _net()
    weight = net.constant(net.parameters.array(C, C, 1, 1), "w")
    first = net.batchnorm(net.node("Conv", ["x", weight]), C)
    second = net.batchnorm(net.node("Conv", ["x", weight]), C)
    folded, ledger = check_fold(net.model(first, second), net.feed(), exact=True)
    assert ledger.absorbed == 2
    assert len({node.input[1] for node in folded.graph.node}) == 2


def test_weight_shared_by_two_convs_with_the_same_batchnorm_stays_shared():
    net = _net()
    weight = net.constant(net.parameters.array(C, C, 1, 1), "w")
    outputs = []
    for name in ("x", net.node("Tanh", ["x"])):
        net.parameters.rng = np.random.default_rng(7)
        outputs.append(net.batchnorm(net.node("Conv", [name, weight]), C))
    folded, ledger = check_fold(net.model(*outputs), net.feed())
    assert ledger.absorbed == 2
    assert len({node.input[1] for node in folded.graph.node if node.op_type == "Conv"}) == 1


def test_weight_shared_with_a_conv_that_has_no_batchnorm():
    net = _net()
    weight = net.constant(net.parameters.array(C, C, 1, 1), "w")
    plain = net.node("Conv", ["x", weight])
    model = net.model(net.batchnorm(net.node("Conv", ["x", weight]), C), plain)
    folded, _ = check_fold(model, net.feed(), exact=True)
    assert "w" in {node.input[1] for node in folded.graph.node}


def test_output_of_the_conv_that_is_consumed_elsewhere():
    """A second reader that is linear takes the other units; one that is not holds them."""
    for other, n_kept in (("Conv", 0), ("Gelu", 1)):
        net = _net()
        stream = net.conv("x", C, C)
        y = net.conv(stream, C, 2) if other == "Conv" else net.node(other, [stream], name="elsewhere")
        net.parameters.gammas = "positive"
        _, ledger = check_fold(net.model(net.batchnorm(stream, C, gamma=[1, 2, 4]), y), net.feed())
        assert ledger.kept == n_kept
    assert "elsewhere" in held_by(ledger)


def test_intermediate_that_is_a_graph_output_too():
    net = _net()
    stream = net.conv("x", C, C)
    _, ledger = check_fold(net.model(net.batchnorm(stream, C, gamma=[1, 2, 4]), stream), net.feed(), exact=True)
    assert list(kept_causes(ledger).values()) == [Cause.GRAPH_OUTPUT]
    assert stream in held_by(ledger)


def test_epsilon_is_that_of_the_node():
    """With epsilon = 3 and var = 1 the scale is half; 1e-5 in its place would double it."""
    net = _net()
    y = net.batchnorm(net.conv("x", C, C), C, epsilon=3.0, gamma=1, variance=1)
    _, ledger = check_fold(net.model(y), net.feed(), exact=True)
    assert ledger.entries[0].max_abs_scale == 0.5


@pytest.mark.parametrize("which", ["weight", "bias"])
def test_conv_parameter_that_is_a_graph_input(which):
    net = _net()
    array = net.parameters.array(C, C, 1, 1) if which == "weight" else net.parameters.array(C)
    name = net.constant(array, "p")
    net.extra_inputs.append(helper.make_tensor_value_info("p", TensorProto.DOUBLE, array.shape))
    inputs = ["x", name] if which == "weight" else ["x", net.constant(net.parameters.array(C, C, 1, 1)), name]
    y = net.batchnorm(net.node("Conv", inputs, name="conv"), C)
    model = net.model(y)
    folded, ledger = check_fold(model, net.feed(), exact=True)
    (stays,) = kept(ledger).values()
    assert stays.before == Holder.refusing("Conv", "conv", Refusal(Cause.NOT_CONSTANT, which))
    fed = {**net.feed(), "p": 2 * array}
    for m in (model, folded):
        assert "p" in {value.name for value in m.graph.input}
    assert_equal(model, folded, fed, exact=True)


@pytest.mark.parametrize("index", [1, 2, 3, 4])
def test_batchnorm_parameter_that_is_a_graph_input(index):
    net = _net()
    y = net.batchnorm(net.conv("x", C, C), C)
    name = net.nodes[-1].input[index]
    net.extra_inputs.append(helper.make_tensor_value_info(name, TensorProto.DOUBLE, [C]))
    _, ledger = check_fold_without_scale(net, y)
    assert list(kept(ledger).values()) == [Refusal(Cause.REPLACEABLE, found=name)]


def check_fold_without_scale(net: Net, *outputs: str):
    """`check_fold` for a BatchNorm whose scale nobody knows: the ledger has no number for it."""
    model = net.model(*outputs)
    folded, ledger = fold(model)
    assert_valid(folded, model)
    assert np.isnan(ledger.entries[0].max_abs_scale)
    return folded, ledger


def test_training_mode_is_left_with_its_reason():
    net = _net()
    inputs = [net.conv("x", C, C), *(net.constant(np.ones(C)) for _ in range(4))]
    net.nodes.append(helper.make_node("BatchNormalization", inputs, ["y", "m", "v"], name="bn", training_mode=1))
    folded, ledger = check_fold_without_scale(net, "y")
    assert kept(ledger) == {"bn": Refusal(Cause.TRAINING_MODE)}
    assert len(batchnorm_nodes(folded.graph)) == 1


@pytest.mark.parametrize("variance", [np.nan, np.inf, -1.0])
def test_variance_that_is_none_is_refused(variance):
    net = _net()
    model = net.model(net.batchnorm(net.conv("x", C, C), C, variance=[1, variance, 1], name="layer4.bn"))
    with pytest.raises(InputRefused, match=r"layer4\.bn"):
        fold(model)


def test_float16_overflow_keeps_the_batchnorm():
    net = _net(dtype="float16")
    model = net.model(net.batchnorm(net.conv("x", C, C), C, gamma=30000, variance=EPSILON))
    folded, ledger = fold(model)
    (stays,) = kept(ledger).values()
    assert (stays.cause, stays.dtype) == (Cause.RANGE, "float16")
    assert len(batchnorm_nodes(folded.graph)) == 1


def _branch(net: Net, name: str, *nodes: onnx.NodeProto) -> onnx.GraphProto:
    """A subgraph whose output is that of its last node."""
    shape = ["N", C, 4, 4]
    return helper.make_graph(
        list(nodes), name, [], [helper.make_tensor_value_info(nodes[-1].output[0], net.element_type, shape)]
    )


def _with_if(net: Net, then: onnx.GraphProto, otherwise: onnx.GraphProto) -> str:
    net.extra_inputs.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, []))
    return net.node("If", ["flag"], then_branch=then, else_branch=otherwise, name="choice")


def _flags(net: Net) -> list[dict[str, np.ndarray]]:
    return [{**net.feed(), "flag": np.array(flag)} for flag in (True, False)]


def test_value_captured_by_a_subgraph_keeps_its_units():
    net = _net()
    y = net.batchnorm(net.conv("x", C, C), C, gamma=[1, 2, 4], name="captured")
    relu, plus = helper.make_node("Relu", [y], ["t"]), helper.make_node("Tanh", [y], ["e"])
    out = _with_if(net, _branch(net, "then", relu), _branch(net, "else", plus))
    for feed in _flags(net):
        folded, ledger = check_fold(net.model(out), feed)
        assert ledger.absorbed == 1
    assert _types(folded) == ["Conv", "If"]


def test_value_in_front_of_the_batchnorm_captured_by_a_subgraph_holds_it():
    net = _net()
    stream = net.conv("x", C, C)
    y = net.batchnorm(stream, C, gamma=[1, 2, 4], name="bn")
    relu, plus = helper.make_node("Relu", [stream], ["t"]), helper.make_node("Tanh", [stream], ["e"])
    out = _with_if(net, _branch(net, "then", relu), _branch(net, "else", plus))
    for feed in _flags(net):
        _, ledger = check_fold(net.model(out, y), feed)
    assert Holder(Cause.CAPTURED, "choice", "If") in (kept(ledger)["bn"].before, kept(ledger)["bn"].after)


def test_batchnorm_inside_a_subgraph_is_in_the_ledger():
    """Its convolution stands beside it; the weights lie in the outer graph."""
    net = _net()
    weight = net.constant(net.parameters.array(C, C, 1, 1))
    constants = [net.constant(a) for a in net.parameters.batchnorm(C)]
    conv = helper.make_node("Conv", ["x", weight], ["c"], name="inner.conv")
    inner = helper.make_node("BatchNormalization", ["c", *constants], ["t"], name="inner.bn", epsilon=EPSILON)
    other = helper.make_node("Conv", ["x", weight], ["e"], name="other.conv")
    out = _with_if(net, _branch(net, "then", conv, inner), _branch(net, "else", other))
    for feed in _flags(net):
        _, ledger = check_fold(net.model(out), feed)
        assert [entry.name for entry in ledger.entries] == ["inner.bn"]


def test_batchnorm_that_loops_over_a_subgraph():
    """The carried value of a Loop enters and leaves every iteration: it keeps its units."""
    net = _net()
    y = net.batchnorm(net.conv("x", C, C), C, name="start")
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Add", ["state", y], ["next"])],
        "body",
        [
            value("i", TensorProto.INT64, []),
            value("go", TensorProto.BOOL, []),
            value("state", TensorProto.DOUBLE, ["N", C, 4, 4]),
        ],
        [value("go_on", TensorProto.BOOL, []), value("next", TensorProto.DOUBLE, ["N", C, 4, 4])],
    )
    count = net.tensor(np.array(3, np.int64))
    net.stated["loop"] = ("N", C, 4, 4)
    net.nodes.append(helper.make_node("Loop", [count, "", y], ["loop"], body=body, name="loop"))
    _, ledger = check_fold(net.model(net.conv(net.batchnorm("loop", C, name="end"), C, 2)), net.feed())
    assert ledger.absorbed == 2


def test_batchnorm_between_graph_input_and_output_stays():
    net = _net()
    _, ledger = check_fold(net.model(net.batchnorm("x", C, name="only")), net.feed(), exact=True)
    stays = kept(ledger)["only"]
    assert (stays.before, stays.after) == (Holder(Cause.GRAPH_INPUT, "x"), Holder(Cause.GRAPH_OUTPUT, "only.out"))


def test_batchnorm_as_last_node_leaves_the_output_as_it_was():
    """Name, type and shape are compared for every model; here the Conv takes the name over."""
    net = _net()
    folded, _ = check_fold(net.model(net.batchnorm(net.conv("x", C, C), C, name="last")), net.feed(), exact=True)
    assert [list(node.output) for node in folded.graph.node] == [["last.out"]]


@pytest.mark.parametrize("source", ["Conv", "input", "output"])
def test_two_outputs_that_would_become_one_value(source):
    """Two BatchNorms that do nothing, behind one value: every name is still there, and is a value of its own."""
    net = _net()
    x = "x" if source == "input" else net.conv("x", C, C)
    outputs = [net.batchnorm(x, C, **UNIT), net.batchnorm(x, C, **UNIT)]
    outputs += [x] if source == "output" else []
    model = net.model(*outputs)
    folded, ledger = fold(model)
    assert_valid(folded, model)
    assert ledger.kept == 0
    feed = net.feed()
    assert_equal(model, folded, feed, exact=True)


def test_functions_of_the_model_are_inlined_and_their_batchnorms_counted():
    """Called twice, the BatchNorm of the function is two."""
    names = ["v", "w", "gamma", "beta", "mean", "var"]
    function = helper.make_function(
        "local",
        "Block",
        names,
        ["out"],
        [
            helper.make_node("Conv", ["v", "w"], ["c"], name="conv"),
            helper.make_node("BatchNormalization", ["c", *names[2:]], ["out"], name="bn", epsilon=EPSILON),
        ],
        [helper.make_opsetid("", 20)],
    )
    net = _net()
    y = "x"
    for k in range(2):
        arrays = [net.parameters.array(C, C, 1, 1), *net.parameters.batchnorm(C)]
        constants = [net.constant(array) for array in arrays]
        net.nodes.append(helper.make_node("Block", [y, *constants], [f"y{k}"], domain="local", name=f"block{k}"))
        y = f"y{k}"
    graph = helper.make_graph(
        net.nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["N", C, 4, 4])],
        [helper.make_tensor_value_info(y, TensorProto.DOUBLE, ["N", C, 4, 4])],
        net.initializers,
    )
    domains = [helper.make_opsetid("", 20), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, functions=[function], opset_imports=domains, ir_version=10)
    onnx.checker.check_model(model)
    folded, ledger = check_fold(model, net.feed(), exact=True)
    assert ledger.absorbed == 2
    assert _types(folded) == ["Conv", "Conv"]


@pytest.mark.parametrize("opset", [9, 13, 17, 20, 22])
def test_opsets_spell_their_operators_differently(opset):
    """Axes, pads and bounds are attributes in old opsets and inputs in new ones."""
    net = _net(opset=opset)
    y = net.conv(net.batchnorm(net.conv("x", C, 4), 4), 4, 4)
    if opset >= 13:
        y = net.node("Unsqueeze", [y, net.integers([4])])
        y = net.node("Squeeze", [y, net.integers([4])])
        y = net.node("Slice", [y, *(net.integers([v]) for v in (1, 4, 2))])
        y = net.node("Concat", net.node("Split", [y, net.integers([1, 3])], outputs=2, axis=1), axis=1)
        y = net.node("Pad", [y, net.integers([0, 0, 1, 1, 0, 0, 0, 0])], mode="reflect")
        y = net.node("Dropout", [y])
    else:
        y = net.node("Unsqueeze", [y], axes=[4])
        y = net.node("Squeeze", [y], axes=[4])
        y = net.node("Slice", [y], starts=[1], ends=[4], axes=[2])
        y = net.node("Concat", net.node("Split", [y], outputs=2, axis=1, split=[1, 3]), axis=1)
        y = net.node("Pad", [y], mode="reflect", pads=[0, 0, 1, 1, 0, 0, 0, 0])
        y = net.node("Dropout", [y], ratio=0.3)
    y = net.batchnorm(net.conv(net.batchnorm(y, 4), 4, C), C)
    _, ledger = check_fold(net.model(y), net.feed(), exact=True)
    assert ledger.absorbed == 3


def test_batchnorm_nobody_reads_is_removed():
    net = _net()
    net.batchnorm(net.conv("x", C, C), C, name="unread")
    _, ledger = check_fold(net.model(net.node("Relu", ["x"])), net.feed(), exact=True)
    assert [(entry.name, entry.outcome) for entry in ledger.entries] == [("unread", "removed")]


def test_batchnorms_of_one_name_have_different_names_in_the_ledger():
    net = _net()
    weights = [
        net.constant(array, f"bn.{key}")
        for key, array in zip(
            ("weight", "bias", "running_mean", "running_var"), net.parameters.batchnorm(C), strict=True
        )
    ]
    for k, x in enumerate((net.conv("x", C, C), net.conv("x", C, C))):
        net.nodes.append(helper.make_node("BatchNormalization", [x, *weights], [f"y{k}"], epsilon=EPSILON))
    _, ledger = check_fold(net.model("y0", "y1"), net.feed(), exact=True)
    assert [entry.name for entry in ledger.entries] == ["bn", "bn#2"]


def test_batchnorm_that_does_nothing_is_absorbed_by_nothing():
    """gamma = 1, beta = 0, mean = 0, var + epsilon = 1: no weight has anything to take."""
    net = _net()
    model = net.model(net.batchnorm(net.conv("x", C, C), C, **UNIT))
    folded, ledger = fold(model)
    assert_valid(folded, model)
    assert ledger.kept == 0
    assert _types(folded) == ["Conv"]


@pytest.mark.parametrize(("variance", "fresh"), [(1.0, True), ([1.0, 1.0, 1.5], False)])
def test_untrained_statistics_are_said(variance, fresh):
    """They fold all too well: what is said of an untrained network does not hold for the trained one."""
    net = Net(Parameters(0, dyadic=False), {"x": ("N", 3, 4, 4)})
    model = net.model(net.batchnorm(net.conv("x", 3, 3), 3, mean=0.0, variance=variance))
    _, ledger = check_fold(model, net.feed())
    assert any("before any training" in warning for warning in ledger.warnings) == fresh


def test_tied_embedding_and_head():
    """One table read by a Gather and, transposed, by a MatMul: only the Gather's side may change."""
    net = Net(Parameters(0, dyadic=True), {"h": ("N", 4, 5)})
    net.extra_inputs.append(helper.make_tensor_value_info("tokens", TensorProto.INT64, ["N", 4]))
    table = net.constant(net.parameters.array(7, 5), "table")
    turned = net.node("Transpose", [net.node("Gather", [table, "tokens"])], perm=[0, 2, 1])
    logits = net.node("MatMul", ["h", net.node("Transpose", [table], perm=[1, 0])])
    model = net.model(net.batchnorm(turned, 5), logits)
    feed = {**net.feed(), "tokens": np.array([[0, 3, 6, 6], [1, 1, 2, 5]])}
    _, ledger = check_fold(model, feed, exact=True)
    assert ledger.absorbed == 1
