"""A right fold that loses digits passes and says so; a wrong one that hides behind lost digits does not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bnfold.folding import fold
from bnfold.numerics.error_bounds import unit_roundoff
from bnfold.records import Criterion, InputSpec
from bnfold.verification import OnnxReference, verify_file
from bnfold.verification.checks.criterion import K_PARAMETERS, K_RMS
from bnfold.verification.checks.parameter_errors import judge_execution, judge_parameters
from bnfold.verification.data.feeds import Feed

N_FEATURES = 512
INPUTS = (InputSpec("x", (None, N_FEATURES), "float32"),)
MEAN_OVER_DEVIATION = 30.0


@pytest.fixture(scope="module")
def source() -> onnx.ModelProto:
    """BatchNorm in front of a Linear, the inputs far from zero: the fold's bias cancels what the inputs add up to."""
    rng = np.random.default_rng(0)
    deviation = rng.uniform(0.5, 1.5, N_FEATURES)
    tensors = {
        "gamma": rng.uniform(0.5, 1.5, N_FEATURES),
        "beta": rng.standard_normal(N_FEATURES),
        "mean": MEAN_OVER_DEVIATION * deviation,
        "var": deviation**2,
        "w": np.abs(rng.standard_normal((10, N_FEATURES))) / np.sqrt(N_FEATURES),
        "b": rng.standard_normal(10),
    }
    graph = helper.make_graph(
        [
            helper.make_node("BatchNormalization", ["x", "gamma", "beta", "mean", "var"], ["n"], epsilon=1e-5),
            helper.make_node("Gemm", ["n", "w", "b"], ["y"], transB=1),
        ],
        "bn_linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", N_FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture(scope="module")
def samples(source) -> dict[str, np.ndarray]:
    mean, var = (numpy_helper.to_array(tensor) for tensor in source.graph.initializer if tensor.name in {"mean", "var"})
    rows = mean + np.sqrt(var) * np.random.default_rng(1).standard_normal((64, N_FEATURES))
    return {"x": rows.astype(np.float32)}


def _without_epsilon(source):
    wrong = onnx.ModelProto()
    wrong.CopyFrom(source)
    del wrong.graph.node[0].attribute[:]
    wrong.graph.node[0].attribute.append(helper.make_attribute("epsilon", 0.0))
    return fold(wrong)[0]


def _in_float16(source):
    """The right fold, its output on the way through float16."""
    file = fold(source)[0]
    file.graph.node[-1].output[0] = "inner"
    file.graph.node.append(helper.make_node("Cast", ["inner"], ["half"], to=TensorProto.FLOAT16))
    file.graph.node.append(helper.make_node("Cast", ["half"], ["y"], to=TensorProto.FLOAT))
    return file


def _verify(tmp_path, source, file, samples):
    onnx.save(file, tmp_path / "file.onnx")
    return verify_file(tmp_path / "file.onnx", OnnxReference(source), inputs=INPUTS, samples=samples, threads=1)


def test_a_right_fold_that_loses_digits_passes_and_says_so(tmp_path, source, samples):
    verdict = _verify(tmp_path, source, fold(source)[0], samples)
    (output,) = verdict.outputs
    assert output.e_output > K_RMS * output.e_source  # otherwise this is no such case
    assert verdict, verdict.failure
    assert output.e_output <= output.allowed
    assert output.decided_by == verdict.decided_by == Criterion.PARAMETERS


@pytest.mark.parametrize(
    ("mutant", "sentence"),
    [
        (_without_epsilon, "its parameters are wrong: without rounding errors still"),
        (_in_float16, "its parameters are right, but it is executed with less than their precision"),
    ],
)
def test_a_wrong_one_does_not_hide_in_them(tmp_path, source, samples, mutant, sentence):
    verdict = _verify(tmp_path, source, mutant(source), samples)
    assert not verdict
    assert sentence in verdict.failure
    assert verdict.decided_by == Criterion.PARAMETERS
    (output,) = verdict.outputs
    assert output.e_output > output.allowed


def test_one_parameter_a_few_roundings_off_is_seen(source, samples):
    """One bias of ten moved by as much as shows K_PARAMETERS times in all of them together."""
    u = unit_roundoff("float32")
    file = fold(source)[0]
    feed = Feed("samples", 64, samples)

    def ratio():
        return judge_parameters(file, OnnxReference(source), [feed] * 2, u=u, seed=0)["y"]

    right = ratio()
    assert right.ratio < K_PARAMETERS
    (bias,) = [tensor for tensor in file.graph.initializer if tensor.dims == [10]]
    values = numpy_helper.to_array(bias).copy()
    step = 2 * K_PARAMETERS * right.rounding.rms * np.sqrt(values.size)
    assert step < 1e-3 * np.abs(values[3])  # a change that no fixed tolerance sees
    values[3] += np.float32(step)
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    assert ratio().ratio > K_PARAMETERS


def test_sizes_and_bounds_are_no_parameters(samples):
    """A Resize by 2 that is 2 (1 - u) by one rounding would lose a pixel, and fail to broadcast."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 1, 2] x) => (float[N, 1, 4] y) <float[3] scales = {1, 1, 2}, float[1, 1, 4] w = {1, 2, 3, 4}> {
            roi = Constant <value = float[0] {}> ()
            up = Resize <mode = "nearest"> (x, roi, scales)
            y = Mul (up, w)
        }""")
    feed = Feed("samples", 8, {"x": samples["x"][:, :2].reshape(-1, 1, 2)})
    (errors,) = judge_parameters(model, OnnxReference(model), [feed], u=unit_roundoff("float32"), seed=0).values()
    assert errors.distance.maximum == 0
    assert errors.rounding.n == 16 * 64 * 4
    assert 0 < errors.rounding.maximum <= unit_roundoff("float32") * 4 * np.abs(feed.arrays["x"]).max()


def test_an_execution_rounds_the_values_of_products_too():
    """y = sum_k a_k b_k has no parameter: with both factors moved by u r, its variance is 2 u^2/3 sum_k (a_k b_k)^2."""
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[N, 1, 300] a, float[N, 300, 1] b) => (float[N, 1, 1] y) { y = MatMul (a, b) }""")
    generator, u = np.random.default_rng(0), unit_roundoff("float32")
    a, b = (generator.standard_normal((400, *shape)).astype(np.float32) for shape in ((1, 300), (300, 1)))
    feed = Feed("samples", 400, {"a": a, "b": b})
    (judged,) = judge_parameters(model, OnnxReference(model), [feed], u=u, seed=0).values()
    (executed,) = judge_execution(model, [feed], u=u, seed=0).values()
    assert judged.rounding.maximum == 0
    expected = np.sqrt(2 * u**2 / 3 * ((a.squeeze(1) * b.squeeze(2)).astype(np.float64) ** 2).sum(axis=1).mean())
    # The relative deviation of a root mean square of n values is 1 / sqrt(2 n) of normal ones.
    assert executed.n == 16 * 400
    assert executed.rms == pytest.approx(expected, rel=5 / np.sqrt(2 * executed.n))
