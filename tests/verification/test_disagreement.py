"""A float64 evaluation that means another network than ONNX Runtime does must not pass a wrong file."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bnfold.errors import InputRefused
from bnfold.graph import float64_ops
from bnfold.graph.float64 import Float64Graph, evaluate
from bnfold.numerics.error_bounds import unit_roundoff
from bnfold.records import InputSpec
from bnfold.verification import OnnxReference, verify_file

ROW = (4, 6, 6)
INPUTS = (InputSpec("x", (None, *ROW), "float32"),)


def _network(*, wrong: bool = False, shift: float = 0.0, tail: str = "Erf", opset: int = 17, **attributes):
    """Conv, + shift - shift, and an operator behind; a wrong one has one row of its kernel times 1.5."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((4, 4, 3, 3)).astype(np.float32) / 6
    if wrong:
        weight[0] *= 1.5
    tensors = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.float32(shift), "shift")]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1] * 4),
        helper.make_node("Add", ["c", "shift"], ["up"]),
        helper.make_node("Sub", ["up", "shift"], ["down"]),
        helper.make_node(tail, ["down"], ["y"], name="tail", **attributes),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *ROW])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _verify(tmp_path, source, candidate):
    onnx.save(candidate, tmp_path / "candidate.onnx")
    return verify_file(tmp_path / "candidate.onnx", OnnxReference(source), inputs=INPUTS, threads=1)


@pytest.fixture
def wrong_erf(monkeypatch):
    """An evaluator that has Erf wrong, by as much as `change` says."""

    def set_to(change: float) -> None:
        original = float64_ops.Erf._run
        monkeypatch.setattr(float64_ops.Erf, "_run", lambda self, x: (original(self, x)[0] + change * np.cos(x),))

    return set_to


@pytest.mark.parametrize("change", [1.0, 1e-3])
@pytest.mark.parametrize("wrong", [False, True])
def test_a_file_is_not_judged_by_an_evaluator_that_is_wrong(tmp_path, wrong_erf, wrong, change):
    wrong_erf(change)
    with pytest.raises(InputRefused, match=r"disagree about what the source computes in output y, first at Erf tail"):
        _verify(tmp_path, _network(), _network(wrong=wrong))


def test_a_right_evaluator_tells_the_wrong_file(tmp_path):
    assert _verify(tmp_path, _network(), _network())
    assert not _verify(tmp_path, _network(), _network(wrong=True))


@pytest.mark.parametrize("shift", [1e5, 1e6])
def test_a_source_that_loses_its_digits_by_rounding_passes(tmp_path, shift):
    verdict = _verify(tmp_path, _network(shift=shift), _network(shift=shift))
    assert verdict, verdict.failure
    assert verdict.ill_conditioned


def test_one_that_loses_them_inside_an_operator_passes(tmp_path):
    """1000000.5 x - 1000000 x in one convolution: no result of a node shows it, a moved parameter does."""
    weight = np.concatenate([np.full((4, 4), 1e6 + 0.5), np.full((4, 4), -1e6)], axis=1).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Concat", ["x", "x"], ["twice"], axis=1), helper.make_node("Conv", ["twice", "w"], ["y"])],
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *ROW])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight[:, :, None, None], "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    verdict = _verify(tmp_path, model, model)
    assert verdict, verdict.failure
    assert verdict.ill_conditioned


def test_a_source_with_its_digits_is_evaluated_no_second_time(tmp_path, monkeypatch):
    asked = []
    original = Float64Graph.evaluate

    def counted(self, feed, *, rounded_to=None):
        asked.append(rounded_to)
        return original(self, feed, rounded_to=rounded_to)

    monkeypatch.setattr(Float64Graph, "evaluate", counted)
    assert _verify(tmp_path, _network(), _network())
    assert asked
    assert set(asked) == {None}


def test_results_are_rounded_to_the_format_asked_for():
    x = np.random.default_rng(1).standard_normal((2, *ROW)).astype(np.float32)
    model = _network()
    exact = evaluate(model, {"x": x})["y"]
    rounded = Float64Graph(model).evaluate({"x": x}, rounded_to=np.dtype("float32"))["y"]
    assert rounded.dtype == np.float64
    np.testing.assert_array_equal(rounded, rounded.astype(np.float32))
    # Four roundings of values below 4 in magnitude, through operators of slope 2 / sqrt(pi) at most.
    assert 0 < np.abs(rounded - exact).max() < 4 * 4 * 1.13 * unit_roundoff("float32")


def test_another_shape_than_in_onnx_runtime_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(float64_ops.Erf, "_run", lambda self, x: (x[..., 1:],))  # noqa: ARG005
    with pytest.raises(InputRefused, match="another shape in float64"):
        _verify(tmp_path, _network(), _network())


def test_an_operator_that_fails_is_refused_by_its_name(tmp_path, monkeypatch):
    def fails(self, x):
        raise KeyError("no such mode")

    monkeypatch.setattr(float64_ops.Erf, "_run", fails)
    with pytest.raises(InputRefused, match=r"float64 in Erf tail: found KeyError: 'no such mode'; take another"):
        _verify(tmp_path, _network(), _network())


def test_an_operator_without_an_evaluation_is_refused_by_its_name():
    with pytest.raises(InputRefused, match=r"float64 in Mish tail: found \w+: .*Mish"):
        Float64Graph(_network(tail="Mish", opset=17))  # it came with opset 18


def test_inputs_that_onnx_runtime_does_not_take_either_are_blamed_as_such():
    reference = OnnxReference(_network())
    with pytest.raises(InputRefused, match="does not run in ONNX Runtime"):
        reference.evaluate64({"x": np.ones((1, 3, 6, 6), np.float32)})
