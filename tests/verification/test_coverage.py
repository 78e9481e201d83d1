"""Channels that no input activates are counted, and what is wrong behind them is found in the parameters."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from bnfold.export import finish
from bnfold.folding import fold_model
from bnfold.records import Coverage, Criterion, InputSpec, as_json
from bnfold.verification import OnnxReference, verify_file
from bnfold.verification.checks.proof import certified
from bnfold.verification.execution.channel_activity import watched

X = InputSpec("x", (None, 2, 6, 6), "float32")
DEAD = 1  # the channel whose bias is -1e6 in front of its ReLU

NETWORK = """
<ir_version: 9, opset_import: ["" : {opset}]>
net (float[N, 2, 6, 6] x) => (float[N, 3, 6, 6] y) {{
  c = Conv <pads = [1, 1, 1, 1]> (x, first.weight, first.bias)
  b = BatchNormalization <epsilon = 1e-05> (c, gamma, beta, mean, var)
  r = Relu (b)
  y = Conv (r, second.weight, second.bias)
}}
"""


def _network(opset: int = 17, dtype=np.float32) -> onnx.ModelProto:
    random = np.random.default_rng(3)
    text = NETWORK.replace("first.", "first_").replace("second.", "second_").format(opset=opset)
    model = onnx.parser.parse_model(text)
    bias = random.normal(size=4)
    bias[DEAD] = -1e6
    parameters = {
        "first_weight": random.normal(size=(4, 2, 3, 3)), "first_bias": bias,
        "gamma": random.uniform(0.5, 2, size=4), "beta": random.normal(size=4),
        "mean": random.normal(size=4), "var": random.uniform(0.5, 2, size=4),
        "second_weight": random.normal(size=(3, 4, 1, 1)), "second_bias": random.normal(size=3),
    }  # fmt: skip
    for name, value in parameters.items():
        model.graph.initializer.append(numpy_helper.from_array(value.astype(dtype), name))
    return model


def _folded(model: onnx.ModelProto, *, move_behind_relus: bool = False) -> onnx.ModelProto:
    """The file that `fold-export` writes."""
    work = ir.from_proto(model)
    fold_model(work, move_behind_relus=move_behind_relus)
    return finish(work)


def _edit(model: onnx.ModelProto, name: str, index, change) -> onnx.ModelProto:
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == name]
    array = numpy_helper.to_array(tensor).copy()
    array[index] = change(array[index])
    tensor.CopyFrom(numpy_helper.from_array(array, name))
    return model


def _two_up(number: np.floating, towards: float = np.inf) -> np.floating:
    """Two units in the last place of the number's own type: with a Python float, NumPy 1 steps in float64."""
    end = number.dtype.type(towards)
    return np.nextafter(np.nextafter(number, end), end)


def _verdict(tmp_path, source: onnx.ModelProto, file: onnx.ModelProto):
    onnx.save(file, tmp_path / "file.onnx")
    return verify_file(tmp_path / "file.onnx", OnnxReference(source), inputs=(X,), threads=1)


@pytest.mark.parametrize("opset", [11, 17, 20])
def test_a_channel_that_is_never_active_is_counted(tmp_path, opset):
    source = _network(opset)
    verdict = _verdict(tmp_path, source, _folded(source))
    assert verdict, verdict.failure
    assert verdict.coverage is not None
    assert (verdict.coverage.channels, verdict.coverage.never_active) == (4, 1)
    assert list(verdict.coverage.layers.values()) == [1]
    assert verdict.certificate is not None
    assert verdict.certificate.certified == verdict.certificate.regions >= 3
    assert 0 < verdict.certificate.parameters_max_ulps <= 0.5  # rounded once
    assert verdict.warnings == ()


@pytest.mark.parametrize(
    ("name", "index", "change"),
    [
        ("first_weight", (DEAD, 0, 1, 1), lambda w: w * 1.01),
        ("first_weight", (DEAD, 1, 0, 2), _two_up),
        ("first_weight", (DEAD, 1, 0, 2), lambda w: w.astype(np.float16)),
        ("first_bias", DEAD, lambda b: b * 1.01),
        ("second_weight", (2, DEAD, 0, 0), lambda w: -w),
    ],
)
def test_what_no_output_shows_is_found_operator_by_operator(tmp_path, name, index, change):
    source = _network()
    file = _edit(_folded(source), name, index, change)
    verdict = _verdict(tmp_path, source, file)
    (output,) = verdict.outputs
    assert output.e_output <= output.allowed  # no input shows it
    assert not verdict
    assert verdict.decided_by == Criterion.CERTIFICATE
    assert "it is not proven: " in verdict.failure
    assert verdict.departure is not None
    assert verdict.departure.layer in ({"c", "b"} if name.startswith("first") else {"y"})
    assert verdict.certificate.parameters_max_ulps > 1  # also of what the fold did not compute


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_has_no_error_that_looks_right(tmp_path, value):
    """NaN was error 0, and a parameter that is NaN was left out of the largest distance."""
    source = _network()
    file = _edit(_folded(source), "first_weight", (0, 0, 1, 1), lambda w: w * 0 + np.float32(value))
    verdict = _verdict(tmp_path, source, file)
    assert not verdict
    assert "NaN or infinite" in verdict.failure
    assert np.isnan(verdict.outputs[0].e_output)
    facts = as_json(verdict)
    assert facts["outputs"][0]["e_output"] is None
    assert _certified(file, source).failure is not None


def _certified(file: onnx.ModelProto, source: onnx.ModelProto):
    return certified(file, source, None, sizes={"x": X.shape})


def test_a_zero_that_is_none_is_found(tmp_path):
    source = _edit(_network(), "second_weight", (1, DEAD, 0, 0), lambda w: 0 * w)
    file = _folded(source)
    assert _verdict(tmp_path, source, file)
    _edit(file, "second_weight", (1, DEAD, 0, 0), lambda _: 2.0**-40)
    found = _certified(file, source)
    assert "parameter second_weight is " in found.failure
    assert found.departure.layer == "y"


def test_another_tools_file_has_no_certificate_and_that_is_said(tmp_path):
    source = _network()
    file = _folded(source)
    file.producer_name = "another"
    verdict = _verdict(tmp_path, source, file)
    assert verdict
    assert verdict.certificate is None
    (warning,) = verdict.warnings
    assert warning.startswith("1 of 4 channels were never active, and what is computed in them is not proven")
    assert "made by another" in warning


def test_other_units_are_right_too(tmp_path):
    source = _network()
    scaled = _folded(source)
    for name, index, factor in (("first_weight", ..., 4), ("first_bias", ..., 4), ("second_weight", ..., 0.25)):
        _edit(scaled, name, index, lambda w, factor=factor: w * np.float32(factor))
    assert "other units" in str(_certified(scaled, source).skipped)
    verdict = _verdict(tmp_path, source, scaled)
    assert verdict, verdict.failure
    assert "other units" in verdict.warnings[0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_each_format_has_its_own_last_place(dtype):
    source = _network(dtype=np.float32)
    if dtype is np.float16:
        source = _half(_edit(source, "first_bias", DEAD, lambda _: -1e3))
    file = _folded(source)
    found = _certified(file, source)
    assert found.failure is None
    assert 0 < found.facts.parameters_max_ulps <= 0.5
    two_up = _certified(_edit(file, "second_bias", 1, lambda b: _two_up(b, 9)), source)
    assert two_up.facts.parameters_max_ulps == pytest.approx(2, abs=0.51)
    assert two_up.failure is not None


def _half(model: onnx.ModelProto) -> onnx.ModelProto:
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return model


def test_a_batchnorm_moved_behind_its_relu_is_the_fold_that_it_is():
    """What `--measure` may choose: the second fold that is tried."""
    source = _network()
    random = np.random.default_rng(5)
    (pool,) = [node for node in source.graph.node if node.output[0] == "c"]
    pool.output[0] = "kept"
    source.graph.node.insert(1, helper.make_node("Relu", ["kept"], ["c"]))  # ReLU-BN-ReLU: the scale can move only
    source = _edit(source, "beta", ..., lambda b: random.normal(size=b.shape))
    moved, stayed = _folded(source, move_behind_relus=True), _folded(source)
    assert {tensor.name for tensor in moved.graph.initializer} != {tensor.name for tensor in stayed.graph.initializer}
    for file in (moved, stayed):
        found = _certified(file, source)
        assert found.skipped is None
        assert found.failure is None
        assert found.facts.unexcited_channels == 0


def test_watching_leaves_the_model_as_it_was():
    model = _network()
    before = model.SerializeToString(deterministic=True)
    with watched(model):
        assert model.SerializeToString(deterministic=True) != before
    assert model.SerializeToString(deterministic=True) == before


def _activity(text: str, feeds, initializers=()) -> Coverage:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {text}')
    model.graph.initializer.extend(initializers)
    reference = OnnxReference(model)
    for feed in feeds:
        outputs = reference.executions32({"x": np.asarray(feed, dtype=np.float32)})[0]
        assert list(outputs) == ["y"]
    return reference.coverage


def test_channels_behind_a_matmul_are_the_last_axis():
    weight = numpy_helper.from_array(np.eye(3, dtype=np.float32), "w")
    text = """(float[N, T, 3] x) => (float[N, T, 3] y) <float[3] b = {0, -10, 0}>
              { m = MatMul (x, w) a = Add (m, b) y = Relu (a) }"""
    rows = [[[1, 1, -1], [0, 2, -3]]]
    assert _activity(text, [rows], [weight]).never_active == 2
    assert _activity(text, [rows, [[[0, 0, 5], [0, 0, 0]]]], [weight]).never_active == 1


def test_both_ends_of_a_clip_are_flat():
    weight = numpy_helper.from_array(np.eye(3, dtype=np.float32), "w")
    text = """(float[N, 3] x) => (float[N, 3] y) <float low = {0}, float high = {6}>
              { g = Gemm (x, w) y = Clip (g, low, high) }"""
    found = _activity(text, [[[7, -1, 3], [9, -2, 4]]], [weight])
    assert found == Coverage(3, 2, found.layers)


def test_what_is_not_certain_is_left_out():
    transposed = "(float[N, 3] x) => (float[N, 3] y) { t = Transpose (x) r = Relu (t) y = Transpose (r) }"
    assert _activity(transposed, [[[-1, -1, -1]]]).channels == 0
