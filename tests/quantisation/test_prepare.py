"""The form that has integer kernels computes what the folded graph does."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from int8_networks import with_parameters
from onnx.reference import ReferenceEvaluator

from bnfold.graph.float64 import evaluate
from bnfold.quantisation.prepare import prepared

DENSE = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[2, 3, 6, 6] x) => (float[2, 10, 6, 6] y, float[2, 6, 12, 6] tall)
{
  [first] a = Conv <kernel_shape = [1, 1]> (x, w0)
  [one] c1 = Concat <axis = 1> (x, a)
  [second] b = Conv <kernel_shape = [1, 1]> (c1, w1)
  [two] c2 = Concat <axis = 1> (x, a, b)
  [third] c = Conv <kernel_shape = [1, 1]> (c2, w2)
  [three] y = Concat <axis = 1> (x, a, b, c)
  [other] c3 = Concat <axis = 2> (x, a)
  [again] c4 = Concat <axis = 2> (x, a)
  [four] tall = Concat <axis = 1> (c3, c4)
}
"""
SHAPES = {"w0": (3, 3, 1, 1), "w1": (2, 6, 1, 1), "w2": (2, 8, 1, 1)}


def test_a_concat_begins_with_the_one_before_it() -> None:
    model = with_parameters(DENSE, SHAPES)
    made = ir.to_proto(prepared(model, where="test"))
    inputs = {node.name: list(node.input) for node in made.graph.node if node.op_type == "Concat"}
    assert inputs == {
        "one": ["x", "a"], "two": ["c1", "b"], "three": ["c2", "c"], "other": ["x", "a"], "again": ["x", "a"],
        "four": ["c3", "c4"],
    }  # fmt: skip
    onnx.checker.check_model(made, full_check=True)
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)
    exact, found = (ReferenceEvaluator(each).run(None, {"x": x}) for each in (model, made))
    for own, other in zip(exact, found, strict=True):
        np.testing.assert_array_equal(own, other)


TRANSITION = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[N, 6, 9, 9] x) => (float[N, 4, P, Q] y)
<float[6] var = {0.5, 0.8, 1.0, 1.2, 1.5, 2.0}> {
  [norm] a = BatchNormalization (x, gamma, beta, mean, var)
  [act] b = Relu (a)
  [narrow] c = Conv <kernel_shape = [SIDE, SIDE]ADDED> (b, w, bias)
  [pool] y = AveragePool <kernel_shape = [2, 2], strides = [2, 2]POOLED> (c)
}
"""


def transition(added: str = "", pooled: str = "", side: int = 1) -> onnx.ModelProto:
    """BatchNorm, Relu, convolution, pool: with attributes of the convolution and the pool, and the kernel's side."""
    text = TRANSITION.replace("ADDED", added).replace("POOLED", pooled).replace("SIDE", str(side))
    shapes = {"gamma": (6,), "beta": (6,), "mean": (6,), "w": (4, 6, side, side), "bias": (4,)}
    return with_parameters(text, shapes)


def order(model: onnx.ModelProto) -> list[str]:
    """The names of the convolution and the pool of the prepared graph, as they run."""
    nodes = ir.to_proto(prepared(model, where="test")).graph.node
    return [node.name for node in nodes if node.name in {"narrow", "pool"}]


@pytest.mark.parametrize("pooled", ["", ", ceil_mode = 1", ", count_include_pad = 1"])
def test_a_pool_goes_before_a_convolution_of_one_position(pooled: str) -> None:
    model = transition(pooled=pooled)
    assert order(model) == ["pool", "narrow"]
    made = ir.to_proto(prepared(model, where="test"))
    onnx.checker.check_model(made, full_check=True)
    x = np.random.default_rng(0).standard_normal((2, 6, 9, 9))
    exact, found = (evaluate(each, {"x": x})["y"] for each in (model, made))
    np.testing.assert_allclose(found, exact, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("added", "pooled", "side"),
    [
        (", pads = [1, 1, 1, 1]", "", 1),  # the bias alone stands at the border
        (", strides = [2, 2]", "", 1),
        ("", ", pads = [1, 1, 1, 1], count_include_pad = 1", 1),  # the bias is no part of a mean with zeros
        ("", "", 3),
    ],
)
def test_a_pool_stays_behind_a_convolution_that_does_not_commute_with_it(added: str, pooled: str, side: int) -> None:
    assert order(transition(added, pooled, side)) == ["narrow", "pool"]
