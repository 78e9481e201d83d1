"""Types that neither a file nor onnx_ir's pass states, and one that the pass states wrongly."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from bnfold.graph.inference import infer_shapes
from bnfold.graph.reading import read_model
from bnfold.runtime import open_session


def test_what_an_unknown_operator_writes_has_the_type_of_its_readers_weight() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 20, "my.domain" : 1]>
    net (float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y) {
      a = my.domain.Thing (x)
      y = Conv <kernel_shape = [1, 1]> (a, w)
    }
    """
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "w"))
    model = read_model(proto)
    infer_shapes(model)
    (value,) = next(iter(model.graph)).outputs
    assert value.type == ir.TensorType(ir.DataType.FLOAT)
    assert value.shape is not None
    assert len(value.shape) == 4


@pytest.mark.parametrize("sizes", [(2, 2), (1, 3)])
def test_a_sequence_stays_one_beside_values_that_follow_from_it(sizes: tuple[int, int]) -> None:
    text = f"""
    <ir_version: 10, opset_import: ["" : 18]>
    net (float[N, 4, 8, 8] x) => (float[N, 4, 8, 8] y)
    <int64[2] sizes = {{{sizes[0]}, {sizes[1]}}}, int64 zero = {{0}}, int64 one = {{1}}> {{
      s = SplitToSequence <axis = 1> (x, sizes)
      p = SequenceAt (s, zero)
      q = SequenceAt (s, one)
      r = Relu (q)
      y = Concat <axis = 1> (p, r)
    }}
    """
    model = read_model(onnx.parser.parse_model(text))
    infer_shapes(model)
    values = {str(value.name): value for node in model.graph for value in node.outputs}
    assert values["s"].type == ir.SequenceType(ir.TensorType(ir.DataType.FLOAT))
    assert values["r"].type == ir.TensorType(ir.DataType.FLOAT)
    assert values["r"].shape is not None
    width = values["r"].shape[1]
    assert (width == 2) if sizes == (2, 2) else (width == ir.SymbolicDim(None))  # a name would say: of equal length
    assert list(values["r"].shape)[2:] == [8, 8]
    x = np.random.default_rng(0).standard_normal((3, 4, 8, 8)).astype(np.float32)
    (y,) = open_session(ir.to_proto(model).SerializeToString()).run(None, {"x": x})
    expected = np.concatenate([x[:, : sizes[0]], np.maximum(x[:, sizes[0] :], 0)], axis=1)
    np.testing.assert_array_equal(y, expected)
