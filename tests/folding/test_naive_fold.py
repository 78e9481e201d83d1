"""Traps that the fold as it is often written falls into: there it is wrong, and ours right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from fold_checks import assert_equal, check_fold
from fold_models import Net, Parameters
from naive_fold import naive_fold
from onnx import TensorProto, helper

from bnfold.folding import fold

C = 3
Build = Callable[[Net], tuple[str, ...]]


def _net(*shape: int, **options) -> Net:
    return Net(Parameters(0, dyadic=False), {"x": ("N", *(shape or (C, 4, 4)))}, **options)


def _naive_is_right(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> bool:
    """Whether the naive fold is done at all, gives a valid file, and the same outputs."""
    try:
        folded = naive_fold(model)
        onnx.checker.check_model(folded, full_check=True)
        assert_equal(model, folded, feed, exact=False)
    except (
        AssertionError,
        ValueError,
        StopIteration,
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
    ):
        return False
    return True


def _bn(net: Net, x: str, **options) -> str:
    return net.batchnorm(x, options.pop("size", C), epsilon=options.pop("epsilon", 1e-5), **options)


def _grouped_conv_transpose(net: Net) -> tuple[str, ...]:
    """The scale lies on axis 1 of the weight, group by group."""
    return (_bn(net, net.conv_transpose(net.conv("x", C, 4), 4, 4, (2, 2), group=2), size=4),)


def _epsilon(net: Net) -> tuple[str, ...]:
    return (_bn(net, net.conv("x", C, C), epsilon=1e-3),)


def _read_elsewhere(net: Net) -> tuple[str, ...]:
    y = net.conv("x", C, C)
    return _bn(net, y), net.conv(y, C, 2)


def _output_of_its_own(net: Net) -> tuple[str, ...]:
    y = net.conv("x", C, C)
    return _bn(net, y), y


def _one_weight_two_batchnorms(net: Net) -> tuple[str, ...]:
    weight, bias = net.constant(net.parameters.array(C, C, 1, 1)), net.constant(net.parameters.array(C))
    return tuple(_bn(net, net.node("Conv", ["x", weight, bias])) for _ in range(2))


def _weight_fed(net: Net) -> tuple[str, ...]:
    weight = net.constant(net.parameters.array(C, C, 1, 1), "w")
    net.extra_inputs.append(helper.make_tensor_value_info("w", TensorProto.DOUBLE, [C, C, 1, 1]))
    return (_bn(net, net.node("Conv", ["x", weight, net.constant(net.parameters.array(C))])),)


def _scale_on_either_side(net: Net) -> tuple[str, ...]:
    factor = net.constant(net.parameters.factor(C, 1, 1))
    return (_bn(net, net.node("Mul", [factor, net.conv("x", C, C)])),)


def _captured(net: Net) -> tuple[str, ...]:
    y = net.conv("x", C, C)
    branches = {
        key: helper.make_graph(
            [helper.make_node(op_type, [y], [f"{key}.y"])],
            key,
            [],
            [helper.make_tensor_value_info(f"{key}.y", TensorProto.DOUBLE, ["N", C, 4, 4])],
        )
        for key, op_type in (("then_branch", "Relu"), ("else_branch", "Tanh"))
    }
    return _bn(net, y), net.node("If", [net.tensor(np.array(True))], **branches)


def _batchnorm_in_front(net: Net) -> tuple[str, ...]:
    return (net.conv(_bn(net, net.node("Sigmoid", ["x"])), C, 2),)


IMAGES: list[Build] = [
    _grouped_conv_transpose, _epsilon, _read_elsewhere, _output_of_its_own, _one_weight_two_batchnorms, _weight_fed,
    _scale_on_either_side, _captured, _batchnorm_in_front,
]  # fmt: skip


def _ids(builds: list[Build]) -> list[str]:
    return [build.__name__.strip("_") for build in builds]


@pytest.mark.parametrize("build", IMAGES, ids=_ids(IMAGES))
def test_trap_of_convolutions(build):
    net = _net()
    model = net.model(*build(net))
    feed = net.feed()
    if build is _weight_fed:
        feed["w"] = net.parameters.array(C, C, 1, 1)
    check_fold(model, feed)
    assert not _naive_is_right(model, feed)


@pytest.mark.parametrize(
    "options",
    [{"alpha": 0.5}, {"beta": 2.0}, {"transA": 1}, {"transB": 0}],
    ids=["alpha", "beta", "transA", "transB"],
)
def test_trap_of_gemm(options):
    net = Net(Parameters(0, dyadic=False), {"x": (C, 5) if "transA" in options else ("N", C)})
    model = net.model(_bn(net, net.gemm("x", C, C, bias=(C,), **{"transB": 1} | options)))
    check_fold(model, net.feed())
    assert _naive_is_right(model, net.feed()) == bool({"transA", "alpha"} & set(options))


def test_bias_on_the_left_of_the_add():
    net = _net(C)
    bias = net.constant(net.parameters.array(C))
    model = net.model(_bn(net, net.node("Add", [bias, net.matmul("x", C, C)])))
    check_fold(model, net.feed())
    assert not _naive_is_right(model, net.feed())


def test_channels_of_a_sequence_are_not_the_features_of_the_linear():
    """(N, T, C) with T == C: BatchNorm1d normalises T, the Linear writes C."""
    net = _net(C, C)
    product = net.node("Add", [net.matmul("x", C, C), net.constant(net.parameters.array(C))])
    model = net.model(_bn(net, product))
    check_fold(model, net.feed())
    assert not _naive_is_right(model, net.feed())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_new_bias_has_the_type_of_the_weight(dtype):
    net = _net(dtype=dtype, opset=22)  # the first with bfloat16 convolutions
    model = net.model(_bn(net, net.conv("x", C, C, bias=False)))
    folded, ledger = fold(model)
    assert ledger.absorbed == 1
    assert {tensor.data_type for tensor in folded.graph.initializer} == {net.element_type}
    onnx.checker.check_model(folded, full_check=True)
    assert not _naive_is_right(model, net.feed())


def test_naive_fold_is_right_where_it_belongs():
    """Else the tests above would show nothing."""
    net = _net()
    model = net.model(_bn(net, net.conv("x", C, 4, (3, 3)), size=4))
    assert _naive_is_right(model, net.feed())
