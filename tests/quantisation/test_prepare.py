"""The form that has integer kernels computes what the folded graph does."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from int8_networks import with_parameters
from onnx.reference import ReferenceEvaluator

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
