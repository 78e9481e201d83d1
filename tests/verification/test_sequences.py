"""`x.split(n, dim)` is a sequence to the exporter: a scale that is computed from the shape of a part is a constant."""

from __future__ import annotations

import numpy as np
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from bnfold.folding import fold_model
from bnfold.verification.certificate import prove
from bnfold.verification.certificate.sequences import part_shape

# As the exporter writes scaled_dot_product_attention of three parts of one Linear (timm's CPUBone): the scale 5^(-1/4)
# is rounded to float32, and the fold puts it into the Linear. Inference over the whole graph does not see through Abs.
SOURCE = """
<ir_version: 9, opset_import: ["" : 18]>
net (float[N, 3, 4] x) => (float[N, 3, 5] y, float[N, 3, 5] z) <float[N, 3, 15] h, float[N, 3, 5] q> {
  m = MatMul (x, w)
  n = Shape <start = 0, end = 1> (x)
  same = Abs (n)
  shape = Concat <axis = 0> (same, rest)
  h = Reshape (m, shape)
  parts = SplitToSequence <axis = 2, keepdims = 1> (h, five)
  q = SequenceAt (parts, first)
  v = SequenceAt (parts, last)
  s = Shape (q)
  d = Gather <axis = 0> (s, last_axis)
  f = CastLike (d, q)
  r = Sqrt (f)
  u = Div (one, r)
  scale = Sqrt (u)
  y = Mul (q, scale)
  z = Relu (v)
}
"""
STORED = {
    "w": np.random.default_rng(5).normal(size=(4, 15)).astype(np.float32), "five": np.array(5), "first": np.array(0),
    "last": np.array(-1), "rest": np.array([3, 15]), "last_axis": np.array([2]), "one": np.array([1], np.float32),
}  # fmt: skip


def test_a_scale_of_the_length_of_a_part_is_proven_where_it_went_into_a_linear():
    source = onnx.parser.parse_model(SOURCE)
    source.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in STORED.items())
    folded = ir.from_proto(source)
    ledger = fold_model(folded)
    assert "Mul" not in [node.op_type for node in folded.graph]
    proof = prove(ir.to_proto(folded), source, ledger.certificate, max_ulps=0.5)
    assert proof, proof.failed


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("split", [None, 3, 7, [1, 4, 2]])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_the_shape_of_a_part_is_that_of_the_reference(axis, split, keepdims):
    shape = (7, 7, 7)
    node = helper.make_node(
        "SplitToSequence", ["x"] if split is None else ["x", "split"], ["s"], axis=axis, keepdims=keepdims
    )
    graph = helper.make_graph(
        [node, helper.make_node("SequenceAt", ["s", "k"], ["y"])], "g",
        [helper.make_tensor_value_info("x", 1, shape), helper.make_tensor_value_info("k", 7, [])],
        [helper.make_tensor_value_info("y", 1, None)],
        [] if split is None else [numpy_helper.from_array(np.array(split), "split")],
    )  # fmt: skip
    evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))
    lengths = None if split is None else np.array(split)
    found = 0
    for position in range(-8, 8):
        expected = part_shape(node, shape, lengths, position)
        if expected is not None:
            found += 1
            part = evaluator.run(None, {"x": np.zeros(shape, np.float32), "k": np.array(position)})[0]
            assert part.shape == expected
    assert found == 2 * {None: 7, 3: 3, 7: 1}.get(split if not isinstance(split, list) else -1, 3)
