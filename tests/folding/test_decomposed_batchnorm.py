"""BatchNorms written as Sub, Mul, Div and Add of constants: one entry of the ledger each, and one decision."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx.parser
import onnx.reference
import pytest
from fold_checks import check_fold, kept
from fold_models import EPSILON, Net, Parameters
from onnx import helper
from random_graphs import calibrate, random_graph

from bnfold.folding import fold
from bnfold.records.causes import Cause

C = 4


class Parts:
    """Writes a BatchNorm over C channels, whose parameters have the shape given, in one of the forms found in files."""

    def __init__(
        self,
        net: Net,
        shape: tuple[int, ...] = (C, 1, 1),
        *,
        epsilon: float = EPSILON,
        spread: float = 1,
        layer: str = "",
        channels: int = C,
    ) -> None:
        self.net, self.epsilon = net, epsilon
        names = [f"{layer}.{part}" if layer else None for part in ("weight", "bias", "running_mean", "running_var")]
        *arrays, variance = net.parameters.batchnorm(channels)
        arrays.append(variance * spread)
        self.gamma, self.beta, self.mean, self.variance = (
            net.constant(array.reshape(shape), name) for array, name in zip(arrays, names, strict=True)
        )

    def node(self, op_type: str, *inputs: str) -> str:
        return self.net.node(op_type, inputs)

    def deviation(self) -> str:
        return self.node("Sqrt", self.node("Add", self.variance, self.net.constant(self.epsilon)))

    def inverse(self, *, power: bool = False) -> str:
        if power:
            return self.node(
                "Pow", self.node("Add", self.net.constant(self.epsilon), self.variance), self.net.constant(-0.5)
            )
        return self.node("Reciprocal", self.deviation())

    def divided(self, x: str) -> str:
        """(x - mean) / deviation * gamma + beta."""
        x = self.node("Div", self.node("Sub", x, self.mean), self.deviation())
        return self.node("Add", self.node("Mul", x, self.gamma), self.beta)

    def gamma_first(self, x: str) -> str:
        """beta + gamma * (x - mean) / deviation."""
        x = self.node("Mul", self.gamma, self.node("Sub", x, self.mean))
        return self.node("Add", self.beta, self.node("Div", x, self.deviation()))

    def frozen(self, x: str) -> str:
        """x s + (beta - mean s), as FrozenBatchNorm2d and tf.nn.batch_normalization compute."""
        scale = self.node("Mul", self.gamma, self.inverse())
        shift = self.node("Sub", self.beta, self.node("Mul", self.mean, scale))
        return self.node("Add", self.node("Mul", x, scale), shift)

    def centred(self, x: str) -> str:
        """(x - mean) (gamma / deviation) + beta, by a power."""
        scale = self.node("Mul", self.inverse(power=True), self.gamma)
        return self.node("Add", self.node("Mul", scale, self.node("Sub", x, self.mean)), self.beta)

    def bare(self, x: str) -> str:
        """(x - mean) / deviation: a BatchNorm without gamma and beta."""
        return self.node("Div", self.node("Sub", x, self.mean), self.deviation())


FORMS = (Parts.divided, Parts.gamma_first, Parts.frozen, Parts.centred, Parts.bare)
forms = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)


def _net(*shape: int, dyadic: bool = True, gammas: str = "mixed", dtype: type = np.float64, **options) -> Net:
    parameters = Parameters(0, dyadic=dyadic, gammas=gammas)
    return Net(parameters, {"x": ("N", *(shape or (3, 6, 6)))}, dtype=dtype, **options)


@forms
@pytest.mark.parametrize("shape", [(C, 1, 1), (1, C, 1, 1)])
def test_behind_a_conv(form, shape):
    net = _net()
    y = form(Parts(net, shape), net.conv("x", 3, C, (3, 3), pads=[1, 1, 1, 1], bias=False))
    folded, ledger = check_fold(net.model(net.node("Sigmoid", [y])), net.feed(), exact=True, n_decomposed=1)
    assert [node.op_type for node in folded.graph.node] == ["Conv", "Sigmoid"]
    assert (ledger.found, ledger.absorbed, ledger.entries[0].into) == (1, 1, ("conv_0",))


@forms
def test_behind_a_linear_operator_without_space(form):
    net = _net(3)
    y = form(Parts(net, (C,)), net.matmul("x", 3, C))
    _, ledger = check_fold(net.model(net.node("Sigmoid", [y])), net.feed(), exact=True, n_decomposed=1)
    assert ledger.absorbed == 1


@forms
@pytest.mark.parametrize("epsilon", [EPSILON, 1e-5, 1e-3])
def test_one_that_stays_is_one_batchnormalization(form, epsilon):
    """Between a sigmoid and a padded conv. ONNX holds epsilon in float32, this network in float64, and needs it so."""
    net = _net(C, 6, 6, dyadic=False)
    y = form(Parts(net, epsilon=epsilon, spread=1e-6), net.node("Sigmoid", ["x"], name="gate"))
    model = net.model(net.conv(y, C, 2, (3, 3), pads=[1, 1, 1, 1]))
    folded, ledger = check_fold(model, net.feed(), n_decomposed=1)
    assert [node.op_type for node in folded.graph.node] == ["Sigmoid", "BatchNormalization", "Conv"]
    (stays,) = kept(ledger).values()
    assert stays.after.cause == Cause.PADDING
    float32 = 2**-24 * epsilon / _variance(model).min()  # of what epsilon loses, by which the variance is larger
    assert ledger.entries[0].min_var_over_eps == pytest.approx(
        _variance(model).min() / epsilon, rel=2 * float32 + 1e-12
    )


def _variance(model: onnx.ModelProto) -> np.ndarray:
    """The fourth constant of `Parts`, behind none."""
    return onnx.numpy_helper.to_array(model.graph.initializer[3])


def test_scale_and_shift_go_or_stay_together():
    """As two operators, the scale would vanish into the conv behind, and the Add would stay alone."""
    net = _net(C, 6, 6)
    y = Parts(net).frozen(net.node("Relu", ["x"]))
    folded, _ = check_fold(net.model(net.conv(y, C, 2)), net.feed(), exact=True, n_decomposed=1)
    assert [node.op_type for node in folded.graph.node] == ["Relu", "Conv"]


def test_the_entry_has_the_name_of_the_layer_that_the_variance_belongs_to():
    net = _net()
    y = Parts(net, layer="body.layer1.bn1").frozen(net.conv("x", 3, C))
    _, ledger = check_fold(net.model(y), net.feed(), exact=True, n_decomposed=1)
    assert [entry.name for entry in ledger.entries] == ["body.layer1.bn1"]


def test_a_layer_used_twice_is_two():
    net = _net(C, 6, 6)
    parts = Parts(net)
    deviation = parts.deviation()
    y = "x"
    for _ in range(2):
        y = parts.node("Sigmoid", net.node("Div", [net.node("Sub", [net.conv(y, C, C), parts.mean]), deviation]))
    _, ledger = check_fold(net.model(y), net.feed(), n_decomposed=2)
    assert ledger.absorbed == 2


@pytest.mark.parametrize("part", ["centred", "normalised", "scaled"])
def test_a_part_that_others_read_ends_the_batchnorm(part):
    net = _net()
    parts = Parts(net)
    values = {"centred": parts.node("Sub", net.conv("x", 3, C), parts.mean)}
    values["normalised"] = parts.node("Div", values["centred"], parts.deviation())
    values["scaled"] = parts.node("Mul", values["normalised"], parts.gamma)
    y = parts.node("Add", values["scaled"], parts.beta)
    check_fold(net.model(net.node("Sigmoid", [y]), net.node("Tanh", [values[part]])), net.feed(), n_decomposed=1)
    net.nodes.pop()
    check_fold(net.model(net.node("Sigmoid", [y]), values[part]), net.feed(), n_decomposed=1)


def test_a_constant_that_widens_the_data_is_no_batchnorm():
    """One channel and a constant of four: y has more channels than x."""
    net = _net(1, 6, 6)
    check_fold(net.model(net.node("Sigmoid", [Parts(net).divided(net.conv("x", 1, 1))])), net.feed())


def test_a_constant_along_another_axis_is_no_batchnorm_of_channels():
    net = _net(5, 6, C)
    check_fold(net.model(net.node("Sigmoid", [Parts(net, (C,)).divided("x")])), net.feed())


def test_a_variance_that_may_change_is_no_batchnorm():
    net = _net()
    parts = Parts(net)
    net.extra_inputs.append(helper.make_tensor_value_info(parts.variance, net.element_type, (C, 1, 1)))
    _, ledger = check_fold(net.model(parts.divided(net.conv("x", 3, C))), net.feed())
    assert ledger.found == 0


def test_a_variance_of_the_data_is_no_batchnorm():
    """A decomposed LayerNorm."""
    net = _net(C)
    parts = Parts(net, (C,))
    mean = (
        net.node("ReduceMean", ["x"], axes=[1]) if net.opset < 18 else net.node("ReduceMean", ["x", net.integers([1])])
    )
    centred = net.node("Sub", ["x", mean])
    square = net.node("Mul", [centred, centred])
    parts.variance = net.node("ReduceMean", [square, net.integers([1])])
    y = net.node("Add", [net.node("Mul", [net.node("Div", [centred, parts.deviation()]), parts.gamma]), parts.beta])
    _, ledger = check_fold(net.model(net.matmul(y, C, 2)), net.feed())
    assert ledger.found == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_parameters_of_the_file_come_back_as_they_are(dtype):
    """gamma / deviation, computed in float64 and multiplied by the deviation again, is gamma to the last bit."""
    net = _net(C, 6, 6, dyadic=False, dtype=dtype)
    y = Parts(net, epsilon=1e-5).frozen(net.node("Sigmoid", ["x"]))
    model = net.model(net.node("Sigmoid", [y]))
    folded, _ = check_fold(model, net.feed(), n_decomposed=1)
    (node,) = [node for node in folded.graph.node if node.op_type == "BatchNormalization"]
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in folded.graph.initializer}
    for name, tensor in zip(node.input[1:], model.graph.initializer, strict=False):
        np.testing.assert_array_equal(stored[name], onnx.numpy_helper.to_array(tensor).reshape(-1), err_msg=name)
    assert np.float32(node.attribute[0].f) == np.float32(dtype(1e-5))


def test_branches_may_use_one_name_each_for_its_own():
    """Names of subgraphs beside each other are their own: each branch has its own variance of one name."""
    branches = []
    for seed in (1, 2):
        inner = Net(Parameters(seed, dyadic=True), {})
        y = inner.node("Identity", [Parts(inner, layer="bn").divided("stem")])
        output = helper.make_tensor_value_info(y, inner.element_type, ["N", C, 6, 6])
        branches.append(helper.make_graph(inner.nodes, f"branch{seed}", [], [output], inner.initializers))
    net = _net()
    stem = net.node("Relu", [net.conv("x", 3, C)])
    choose = net.node("Greater", [net.node("ReduceMax", ["x"], keepdims=0), net.constant(0.0)])
    nodes = [*net.nodes, helper.make_node("Identity", [stem], ["stem"])]
    net.nodes = [*nodes, helper.make_node("If", [choose], ["y"], then_branch=branches[0], else_branch=branches[1])]
    model = net.model()
    model.graph.output.append(helper.make_tensor_value_info("y", net.element_type, ["N", C, 6, 6]))
    for sign in (1, -1):
        check_fold(model, {"x": sign * np.abs(net.feed()["x"])}, n_decomposed=2)


@pytest.mark.parametrize("n", [2, 3])
def test_one_behind_the_other(n):
    """`x - mean` belongs to the root behind it, not to the one in front of it."""
    net = _net()
    y = net.conv("x", 3, C)
    for _ in range(n):
        y = Parts(net).bare(y)
    _, ledger = check_fold(net.model(net.node("Sigmoid", [y])), net.feed(), exact=True, n_decomposed=n)
    assert ledger.absorbed == n


@pytest.mark.parametrize(("op_type", "shape"), [("Add", (1, C, 6, 6)), ("Mul", (6, 6)), ("Sub", (1, 1, 6, 1))])
def test_a_constant_over_space_behind_it_is_not_its_own(op_type, shape):
    net = _net()
    y = Parts(net).bare(net.conv("x", 3, C))
    y = net.node(op_type, [y, net.constant(net.parameters.factor(*shape))])
    _, ledger = check_fold(net.model(net.node("Sigmoid", [y])), net.feed(), n_decomposed=1)
    assert ledger.absorbed == 1


@pytest.mark.parametrize("layer", ["", "layer1.bn"])
def test_epsilon_first_and_one_channel(layer):
    """Both are numbers: the variance is the layer's own parameter, else the larger one."""
    net = _net(1)
    parts = Parts(net, (1,), layer=layer, channels=1)
    spread = net.node("Add", [net.constant(1e-5), parts.variance])
    y = net.node("Div", [net.node("Sub", [net.matmul("x", 1, 1), parts.mean]), net.node("Sqrt", [spread])])
    _, ledger = check_fold(net.model(net.node("Sigmoid", [y])), net.feed(), n_decomposed=1)
    assert ledger.entries[0].min_var_over_eps > 1e4
    assert not layer or ledger.entries[0].name == layer


@pytest.mark.parametrize("power", [2.0, -1.0, 0.5])
def test_a_power_of_a_sum_of_constants_may_be_no_deviation(power):
    net = _net()
    weights = np.array([1.0, 2.0, 3.0, 0.5] if power == 0.5 else [-3.0, 2.0, 3.0, 0.5]).reshape(C, 1, 1)
    sum_ = net.node("Add", [net.constant(weights), net.constant(1.0)])
    y = net.node("Mul", [net.conv("x", 3, C), net.node("Pow", [sum_, net.constant(power)])])
    check_fold(net.model(net.node("Sigmoid", [y])), net.feed(), n_decomposed=int(power == 0.5))


def test_a_variance_that_leaves_no_root_is_left_as_it_is():
    net = _net(dyadic=False)
    sum_ = net.node("Add", [net.constant([[[-0.5]], [[1.0]], [[2.0]], [[3.0]]]), net.constant(0.5)])
    y = net.node("Mul", [net.conv("x", 3, C), net.node("Sqrt", [sum_])])
    check_fold(net.model(net.node("Sigmoid", [y])), net.feed())


def test_parameters_that_float16_cannot_hold_are_left_as_they_are():
    """A scale of 3e4 times a deviation of 4."""
    net = _net(dtype=np.float16)
    sum_ = net.node("Add", [net.constant(np.full((C, 1, 1), 16.0)), net.constant(0.5)])
    y = net.node("Mul", [net.node("Mul", [net.conv("x", 3, C), net.node("Sqrt", [sum_])]), net.constant(3e4)])
    _, ledger = fold(net.model(net.node("Sigmoid", [y])))
    assert ledger.found == 0


@pytest.mark.parametrize(("opset", "found"), [(13, 0), (15, 1)])
def test_bfloat16_has_no_batchnormalization_before_opset_14(opset, found):
    net = _net(C, 6, 6, dtype=ml_dtypes.bfloat16, opset=opset)
    model = net.model(net.node("Identity", [Parts(net).divided("x")]))
    folded, ledger = fold(model)
    onnx.checker.check_model(folded, full_check=True)
    assert ledger.found == found


@pytest.mark.parametrize("gammas", ["positive", "mixed", "zeros"])
def test_random_graphs_fold_the_same_in_parts_and_whole(gammas):
    n_decomposed = 0
    for seed in range(40):
        whole, net = random_graph(Parameters(seed, dyadic=False, gammas=gammas), 8 + seed % 8)
        feed = net.feed()
        whole = calibrate(whole, feed)
        parts, n = take_apart(whole)
        _, expected = check_fold(whole, feed)
        _, ledger = check_fold(parts, feed, n_decomposed=n)
        assert [entry.outcome for entry in ledger.entries] == [entry.outcome for entry in expected.entries]
        n_decomposed += n
    assert n_decomposed > 50


def take_apart(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """The model with every BatchNormalization outside subgraphs as `x s + (beta - mean s)`, and their number."""
    inferred = onnx.shape_inference.infer_shapes(model)
    graphs = (inferred.graph.value_info, inferred.graph.input, inferred.graph.output)
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for values in graphs for value in values}
    apart = onnx.ModelProto()
    apart.CopyFrom(model)
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = list(apart.graph.node)
    norms = [node for node in nodes if node.op_type == "BatchNormalization"]
    for norm in norms:
        x, names, (y,) = norm.input[0], norm.input[1:], norm.output
        epsilon = helper.get_node_attr_value(norm, "epsilon")
        made = {
            part: arrays[name].reshape(-1, *[1] * (ranks[x] - 2))
            for part, name in zip(("gamma", "beta", "mean", "variance"), names, strict=True)
        }
        made["epsilon"] = np.asarray(epsilon, arrays[names[0]].dtype)
        apart.graph.initializer.extend(onnx.numpy_helper.from_array(a, f"{y}/{part}") for part, a in made.items())
        steps = [
            ("Add", ["variance", "epsilon"], "spread"),
            ("Sqrt", ["spread"], "deviation"),
            ("Div", ["gamma", "deviation"], "s"),
            ("Mul", ["mean", "s"], "ms"),
            ("Sub", ["beta", "ms"], "t"),
        ]
        new = [helper.make_node(op, [f"{y}/{part}" for part in inputs], [f"{y}/{out}"]) for op, inputs, out in steps]
        new += [
            helper.make_node("Mul", [x, f"{y}/s"], [f"{y}/scaled"]),
            helper.make_node("Add", [f"{y}/scaled", f"{y}/t"], [y]),
        ]
        at = nodes.index(norm)
        nodes[at : at + 1] = new
    del apart.graph.node[:]
    apart.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in apart.graph.initializer if tensor.name in used]
    del apart.graph.initializer[:]
    apart.graph.initializer.extend(kept)
    onnx.checker.check_model(apart, full_check=True)
    return apart, len(norms)


@pytest.mark.parametrize("power", [-0.5, -0.25, -1.0])
def test_only_a_square_root_is_a_deviation(power):
    net = _net(dyadic=False)
    parts, y = Parts(net), net.conv("x", 3, C, (3, 3))
    total = parts.node("Add", parts.variance, net.constant(EPSILON))
    y = parts.node("Mul", y, parts.node("Pow", total, net.constant(power)))
    n = int(power == -0.5)
    _, ledger = check_fold(net.model(net.node("Sigmoid", [y])), net.feed(), n_decomposed=n)
    assert ledger.found == n


@pytest.mark.parametrize("op_type", ["Add", "Mul"])
def test_only_a_sum_has_an_epsilon(op_type):
    net = _net(dyadic=False)
    parts, y = Parts(net), net.conv("x", 3, C, (3, 3))
    total = parts.node(op_type, parts.variance, net.constant(0.25))
    y = parts.node("Div", y, parts.node("Sqrt", total))
    n = int(op_type == "Add")
    _, ledger = check_fold(net.model(net.node("Sigmoid", [y])), net.feed(), n_decomposed=n)
    assert ledger.found == n


def test_a_mean_along_another_axis_is_none():
    net = _net(dyadic=False)
    parts, y = Parts(net), net.conv("x", 3, C)
    y = parts.node("Div", parts.node("Sub", y, net.constant(np.arange(6.0).reshape(6, 1))), parts.deviation())
    check_fold(net.model(net.node("Sigmoid", [y])), net.feed(), n_decomposed=1)  # the division alone


def test_a_number_of_channels_that_is_not_known_is_none():
    text = """
    <ir_version: 9, opset_import: ["" : 17]>
    net (float[N, D, 6, 6] x) => (float[N, D, 6, 6] y) <float v = {2.0}, float e = {0.001}, float m = {0.5}> {
      c = Sub (x, m)
      t = Add (v, e)
      d = Sqrt (t)
      y = Div (c, d)
    }
    """
    folded, ledger = fold(onnx.parser.parse_model(text))
    assert ledger.found == 0
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 6)).astype(np.float32)
    (y,) = onnx.reference.ReferenceEvaluator(folded).run(None, {"x": x})
    np.testing.assert_allclose(y, (x - 0.5) / np.sqrt(2.001), rtol=1e-6)
