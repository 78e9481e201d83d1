"""The form in which the rules read a graph."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from bnfold.graph.canonical import canonicalise
from bnfold.graph.constants import constant


def _reshaped(*lengths: str | int) -> ir.Model:
    """x (N, 12) reshaped to a shape that is computed from the length of the batch; y is declared as `lengths`."""
    text = f"""<ir_version: 10, opset_import: ["" : 20]>
    g (float[N, 12] x) => (float[{", ".join(map(str, lengths))}] y)
    <int64[1] one = {{1}}, int64[2] rest = {{3, 4}}> {{
      batch = Shape <start = 0, end = 1> (x)
      sizes = Concat <axis = 0> (batch, rest)
      y = Reshape (x, sizes)
    }}"""
    return ir.from_onnx_text(text)


def test_shape_computed_from_the_batch_alone_becomes_a_constant():
    model = _reshaped("N", 3, 4)
    canonicalise(model)
    assert [node.op_type for node in model.graph] == ["Reshape"]
    np.testing.assert_array_equal(constant(model.graph.node(0).inputs[1]), [-1, 3, 4])


@pytest.mark.parametrize("lengths", [("N", "M", 4), (1, 3, 4), ("N", 0, 4)])
def test_shape_that_one_unknown_length_does_not_determine_stays_computed(lengths):
    """Two unknown lengths; a declared batch, which may be stale; a length of 0, which would copy the input's."""
    model = _reshaped(*lengths)
    canonicalise(model)
    assert "Concat" in [node.op_type for node in model.graph]


def _sliced(shape: str, starts: str, ends: str, axes: str, steps: str) -> ir.Model:
    n = len(starts.split(","))
    text = f"""<ir_version: 10, opset_import: ["" : 20]>
    g (float[{shape}] x) => (float[{shape}] y)
    <int64[{n}] s = {{{starts}}}, int64[{n}] e = {{{ends}}}, int64[{n}] a = {{{axes}}}, int64[{n}] p = {{{steps}}}> {{
      part = Slice (x, s, e, a, p)
      y = Relu (part)
    }}"""
    return ir.from_onnx_text(text)


@pytest.mark.parametrize(
    ("bounds", "whole"),
    [
        (("0", "9223372036854775807", "0", "1"), True),
        (("0", "4", "1", "1"), True),
        (("0, 0", "2147483647, 7", "0, -1", "1, 1"), True),
        (("0", "3", "1", "1"), False),
        (("1", "9223372036854775807", "1", "1"), False),
        (("0", "9223372036854775807", "1", "2"), False),
        (("0", "4", "0", "1"), False),  # the batch may be longer
        (("0", "-1", "1", "1"), False),
    ],
)
def test_slice_that_takes_all_there_is_goes(bounds, whole):
    model = _sliced("N, 4", *bounds)
    canonicalise(model)
    assert ("Slice" not in [node.op_type for node in model.graph]) == whole
    assert [value.name for value in model.graph.outputs] == ["y"]
