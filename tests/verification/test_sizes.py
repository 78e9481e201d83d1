"""Batches and sizes: which a comparison runs at, which it refuses, and what it says of both."""

from __future__ import annotations

import onnx
import onnx.parser
import pytest
from onnx import helper

from bnfold.errors import InputRefused
from bnfold.records import InputSpec
from bnfold.verification import OnnxReference, verify_file
from bnfold.verification.data.compared_sizes import batches_to_compare, other_sizes

IMAGE = InputSpec("x", (None, 1, 6, 5), "float32")


@pytest.mark.parametrize(
    ("batch", "asked", "used"),
    [(None, (), [1, 2, 3]), (None, (8,), [1, 2, 3, 8]), (None, (2, 1), [1, 2, 3]), (4, (), [4]), (4, (4,), [4])],
)
def test_batches(batch, asked, used):
    assert batches_to_compare([InputSpec("x", (batch, 3), "float32")], asked) == used


@pytest.mark.parametrize("asked", [(8,), (1, 4)])
def test_another_batch_than_the_fixed_one_is_refused(asked):
    with pytest.raises(InputRefused, match=r"the batch is fixed in input x: found --batch \d, expected batch 4; leave"):
        batches_to_compare([InputSpec("x", (4, 3), "float32")], asked)


def _sizes(shape, axes, other=None):
    spec = InputSpec("x", (None, *shape), "float32")
    return [sized.shape[1:] for (sized,) in other_sizes([spec], {"x": ("n", *(other or axes))}, {"x": ("n", *axes)})]


def test_dynamic_axes_get_other_sizes_each_its_own():
    together = [(3, 192, 256), (3, 448, 448), (3, 225, 225)]
    assert _sizes((3, 224, 224), (3, "h", "w")) == [*together, (3, 448, 224), (3, 224, 448)]
    assert _sizes((3, 32, 48), (3, "h", "w"))[:3] == [(3, 64, 144), (3, 64, 96), (3, 33, 49)]
    assert _sizes((3, 224, 224), (3, "s", 224)) == [(3, 192, 224), (3, 448, 224), (3, 225, 224)]
    assert _sizes((3, 224, 224), (3, "s", "s"))[0] == (3, 192, 192)  # one name, one size
    assert _sizes((3, 224, 224), (3, None, None))[0] == (3, 192, 256)
    assert _sizes((3, 224, 224), (3, 224, "w"))[0] == (3, 224, 192)


def test_only_what_both_sides_leave_free_is_changed():
    assert _sizes((3, 8, 8), (3, 8, 8)) == []
    assert _sizes((3, 8, 8), (3, "h", "w"), other=(3, 8, 8)) == []
    assert _sizes((3, 8, 8), (3, 8, 8), other=(3, "h", "w")) == []
    assert _sizes((3, 8, 8), (3, "h", "w"), other=(3, 8, "w"))[0] == (3, 8, 16)


def _model(body: str, inputs: str = "float[N, 1, H, W] x") -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g ({inputs}) => (float[N, 1, A, B] y) {{ {body} }}'
    )


def _verify(tmp_path, source: onnx.ModelProto, file: onnx.ModelProto, **options):
    onnx.save(file, tmp_path / "file.onnx")
    return verify_file(tmp_path / "file.onnx", OnnxReference(source), inputs=(IMAGE,), threads=1, **options)


def test_a_file_that_is_right_at_one_size_only_fails(tmp_path):
    pooled = _model("y = GlobalAveragePool (x)")
    verdict = _verify(tmp_path, pooled, pooled)
    assert verdict, verdict.failure
    assert verdict.sizes == {"x": ((1, 6, 5), (1, 12, 15))}
    assert verdict.warnings == ()
    summed = _model("d = Constant <value_float = 30.0> () s = ReduceSum <keepdims = 1> (x, axes) y = Div (s, d)")
    summed.graph.initializer.append(helper.make_tensor("axes", onnx.TensorProto.INT64, [2], [2, 3]))
    wrong = _verify(tmp_path, pooled, summed)
    assert not wrong
    assert "batch 2, x 1x12x15" in wrong.failure


def test_a_file_that_mixes_up_the_axes_fails(tmp_path):
    """A file that knows only square inputs: 8 x 8 does not tell, 16 x 24 does."""
    square = InputSpec("x", (None, 1, 8, 8), "float32")
    shape = "s = Shape (x) i = Constant <value_ints = [{}]> () t = Gather (s, i) y = Expand (m, t)"
    right = _model("m = GlobalAveragePool (x) " + shape.format("0, 1, 2, 3"))
    wrong = _model("m = GlobalAveragePool (x) " + shape.format("0, 1, 3, 2"))
    for file, passed in ((right, True), (wrong, False)):
        onnx.save(file, tmp_path / "file.onnx")
        verdict = verify_file(tmp_path / "file.onnx", OnnxReference(right), inputs=(square,), threads=1)
        assert verdict.passed is passed
    assert "shape (2, 1, 24, 16), expected (2, 1, 16, 24)" in verdict.failure


def test_a_source_that_runs_at_one_size_only_is_said_to(tmp_path):
    fixed = _model("y = Reshape (x, shape)")
    fixed.graph.initializer.append(helper.make_tensor("shape", onnx.TensorProto.INT64, [4], [-1, 1, 6, 5]))
    fixed.graph.node.insert(0, helper.make_node("Sub", ["x", "grid"], ["z"]))
    fixed.graph.node[1].input[0] = "z"
    fixed.graph.initializer.append(helper.make_tensor("grid", onnx.TensorProto.FLOAT, [6, 5], [0.5] * 30))
    verdict = _verify(tmp_path, fixed, fixed)
    assert verdict, verdict.failure
    assert verdict.sizes == {"x": ((1, 6, 5),)}
    (warning,) = verdict.warnings
    assert warning.startswith("dynamic axes were compared at one size only: the source does not run at x 1x12x15; nor")
    assert ": InputRefused: the unfolded graph does not run in ONNX Runtime" in warning


def test_an_axis_that_is_dynamic_by_name_only_leaves_the_other_compared_at_two_sizes(tmp_path):
    rows = _model("y = Sub (x, grid)")
    rows.graph.initializer.append(helper.make_tensor("grid", onnx.TensorProto.FLOAT, [6, 1], [0.5] * 6))
    verdict = _verify(tmp_path, rows, rows)
    assert verdict, verdict.failure
    assert verdict.sizes == {"x": ((1, 6, 5), (1, 6, 10))}
    assert verdict.warnings == ()


def test_a_batch_that_the_file_has_not_is_refused(tmp_path):
    fixed = _model("y = Relu (x)", "float[4, 1, 6, 5] x")
    assert _verify(tmp_path, fixed, fixed).batches == (4,)
    with pytest.raises(InputRefused, match="the batch is fixed"):
        _verify(tmp_path, fixed, fixed, batches=(8,))
