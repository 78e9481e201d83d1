"""Declared shapes of outputs and of values in between: confirmed or contradicted, never believed for a constant."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from bnfold.folding import fold
from bnfold.graph.canonical import canonicalise
from bnfold.graph.claims import settle_claims
from bnfold.graph.float64 import Float64Graph
from bnfold.graph.reading import read_model

# As text recognition exports its head: (T, N, 2) times (2, 3), by way of (T N, 2).
HEAD = """
  t = Shape <start = 0, end = 1> (x)
  n = Shape <start = 1, end = 2> (x)
  tn = Mul (t, n)
  flat = Concat <axis = 0> (tn, two)
  rows = Reshape (x, flat)
  product = MatMul (rows, w)
  back = Concat <axis = 0> (t, n, three)
  y = Reshape (product, back)
"""
CONSTANTS = "<int64[1] two = {2}, int64[1] three = {3}, float[2, 3] w = {1, 2, 3, 4, 5, 6}>"


def _head(declared: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 18]>
        g (float[T, N, 2] x) => (float[{declared}] y) {CONSTANTS} {{ {HEAD} }}"""
    )


@pytest.mark.parametrize("declared", ["1, sequence", "16, 1, 3", "1, 1, sequence", "T, N, 7", ""])
def test_a_stale_output_shape_changes_nothing(declared: str) -> None:
    """Whatever is declared, all sizes of the input still give their own output."""
    folded, _ = fold(_head(declared))

    for sizes in ((16, 1, 2), (5, 3, 2)):
        feed = {"x": np.random.default_rng(0).normal(size=sizes)}
        assert Float64Graph(folded).evaluate(feed)["y"].shape == (*sizes[:2], 3)


@pytest.mark.parametrize("declared", ["1, sequence", "T, N, 7"])
def test_a_contradiction_is_said_and_not_written_on(declared: str, caplog: pytest.LogCaptureFixture) -> None:
    folded, _ = fold(_head(declared))
    (y,) = folded.graph.output
    assert "its own operators contradict: `y` " + declared.replace(", ", " x ") in caplog.text
    assert len(y.type.tensor_type.shape.dim) == 3
    assert y.type.tensor_type.shape.dim[2].dim_value in {0, 3}


def test_a_true_output_shape_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    folded, _ = fold(_head("T, N, 3"))
    assert [dim.dim_param or dim.dim_value for dim in folded.graph.output[0].type.tensor_type.shape.dim] == [
        "T",
        "N",
        3,
    ]
    assert not caplog.records


def _claimed(value_info: dict[str, list[int | str]], nodes: str) -> ir.Model:
    """A value u of unknown shape, and what is declared of values."""
    proto = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 18]>
        g (float[N, 6] x, int64[K] anything) => (float[A, B] y) <float one = {{1}}> {{
          u = Reshape (x, anything)
          {nodes}
        }}"""
    )
    for name, shape in value_info.items():
        proto.graph.value_info.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
    return read_model(proto)


def _shape_of(model: ir.Model, name: str) -> list[int | str | None] | None:
    (value,) = [value for node in model.graph for value in node.outputs if value.name == name]
    return None if value.shape is None else [s if isinstance(s, int) else s.value for s in value.shape]


def test_a_number_that_is_only_claimed_becomes_no_constant() -> None:
    model = _claimed({"u": [16, 4]}, "s = Shape (u) y = Expand (one, s)")
    settle_claims(model)
    canonicalise(model)
    assert [node.op_type for node in model.graph] == ["Reshape", "Shape", "Expand"]


def test_ranks_and_names_that_nothing_contradicts_are_taken() -> None:
    model = _claimed({"u": ["rows", 4]}, "y = Neg (u)")
    settle_claims(model)
    assert _shape_of(model, "u") == ["rows", None]


def test_the_name_of_an_input_is_not_replaced() -> None:
    model = _claimed({"v": ["M", 6]}, "v = Neg (x) y = Add (v, u)")
    settle_claims(model)
    assert _shape_of(model, "v") == ["N", 6]


def test_one_contradiction_and_no_claim_is_believed() -> None:
    """The shapes are of another graph: of one before somebody cut it, or changed its width."""
    model = _claimed({"u": ["rows", "columns"], "v": ["N", 7]}, "v = Neg (x) y = Add (v, u)")
    settle_claims(model)
    assert _shape_of(model, "v") == ["N", 6]
    assert _shape_of(model, "u") is None


def test_claims_inside_a_subgraph_are_settled_too() -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18]>
        g (float[N, 6] x, bool c) => (float[A, B] y) {
          y = If (c) <
            then_branch = t () => (float[1, 7] a) { a = Neg (x) },
            else_branch = e () => (float[N, 6] b) { b = Abs (x) }
          >
        }"""
    )
    model = read_model(proto)
    settle_claims(model)
    inner = model.graph[0].attributes["then_branch"].as_graph()
    assert inner.outputs[0].shape is not None
    assert [getattr(size, "value", size) for size in inner.outputs[0].shape] == ["N", 6]
