"""Units of least noise: the same function, and a result that does not depend on the units of the source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from int8_networks import SPECS, with_parameters

from bnfold.quantisation.calibrate import observe_channels
from bnfold.quantisation.gauge import choose_gauge, free_classes, in_units, with_statistics
from bnfold.quantisation.measure_error import output_errors
from bnfold.quantisation.noise import ActivationNoise, WeightNoise, least_noise, noise
from bnfold.quantisation.prepare import prepared
from bnfold.quantisation.prove import prove
from bnfold.quantisation.samples import split_samples
from bnfold.quantisation.sensitivity import sensitivities

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bnfold.quantisation.quantise import Quantised

TEXT = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[N, 3, 13, 13] x) => (float[N, 5] y) {
  [stem] a = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, stem_weight, stem_bias)
  [stem_act] b = Relu (a)
  [wide] c = Conv (b, wide_weight, wide_bias)
  [wide_act] d = Relu (c)
  [deep] e = Conv <pads = [1, 1, 1, 1], group = 16> (d, deep_weight, deep_bias)
  [deep_act] f = Relu (e)
  [narrow] g = Conv (f, narrow_weight, narrow_bias)
  [add] h = Add (g, b)
  [grouped] i = Conv <group = 2> (h, grouped_weight)
  [grouped_act] j = Relu (i)
  [mean] k = GlobalAveragePool (j)
  [flat] l = Flatten (k)
  [fc] m = Gemm <transB = 1> (l, fc_weight, fc_bias)
  [fc_act] n = Relu (m)
  [head] y = Gemm (n, head_weight, head_bias)
}
"""
SHAPES = {
    "stem_weight": (8, 3, 3, 3), "stem_bias": (8,), "wide_weight": (16, 8, 1, 1), "wide_bias": (16,),
    "deep_weight": (16, 1, 3, 3), "deep_bias": (16,), "narrow_weight": (8, 16, 1, 1), "narrow_bias": (8,),
    "grouped_weight": (12, 4, 3, 3), "fc_weight": (10, 12), "fc_bias": (10,), "head_weight": (10, 5),
    "head_bias": (5,),
}  # fmt: skip


@pytest.fixture(scope="module")
def free_network() -> onnx.ModelProto:
    """A network whose channels are free but for the input's and the output's."""
    return with_parameters(TEXT, SHAPES)


def rescaled(network: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """The same function, every free class of channels stored 2^U(-4, 4) times as large."""
    assert free_classes(prepared(network, where="test")) > 40
    return rescaled_anyhow(network, seed)


def rescaled_anyhow(network: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """The same, however many classes there are."""
    model = prepared(network, where="test")
    in_units(model, 2.0 ** np.random.default_rng(seed).uniform(-4, 4, free_classes(model)))
    proto = ir.to_proto(model)
    del proto.graph.value_info[:]
    return proto


def answers(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return np.asarray(ort.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})[0])


def test_other_units_are_the_same_function(free_network: onnx.ModelProto, samples: dict[str, np.ndarray]) -> None:
    other = rescaled(free_network, 0)
    before = {tensor.name: tensor.raw_data or tensor.float_data for tensor in free_network.graph.initializer}
    after = {tensor.name: tensor.raw_data or tensor.float_data for tensor in other.graph.initializer}
    assert all(before[name] != after[name] for name in SHAPES if name.endswith("weight"))
    expected = answers(free_network, samples["x"])
    np.testing.assert_allclose(answers(other, samples["x"]), expected, atol=3e-6 * np.abs(expected).max())


@pytest.mark.parametrize("weights", ["per-channel", "per-tensor"])
def test_the_noise_does_not_depend_on_the_units_of_the_source(
    make: Callable[..., Quantised], free_network: onnx.ModelProto, samples: dict[str, np.ndarray], weights: str
) -> None:
    held_out = split_samples(samples, seed=0, where="test").held_out
    found: dict[tuple[str, bool], float] = {}
    for name, source in (("as it is", free_network), ("rescaled", rescaled(free_network, 1))):
        for choose in (False, True):
            made = make(source, weights=weights, choose_units=choose)
            exact, own = (model.SerializeToString() for model in (free_network, made.model))
            (error,) = output_errors(own, exact, held_out, SPECS, threads=1)
            found[name, choose] = error.sqnr_db
            if choose and name == "rescaled":
                assert made.gauge.taken
    assert found["rescaled", False] < found["as it is", False] - 6
    assert found["rescaled", True] > found["as it is", True] - 1


def test_the_least_noise_is_the_same_from_whatever_units(
    make: Callable[..., Quantised], free_network: onnx.ModelProto, samples: dict[str, np.ndarray]
) -> None:
    least = []
    for seed in (None, 2, 3):
        model = prepared(free_network if seed is None else rescaled(free_network, seed), where="test")
        recipe = make(free_network, choose_units=False, correct_biases=False).recipe
        statistics = observe_channels(model, with_statistics(recipe, model.graph), samples, SPECS, threads=1)
        chosen = choose_gauge(model, recipe, statistics)
        again = observe_channels(chosen.model, with_statistics(recipe, model.graph), samples, SPECS, threads=1)
        least.append({name: own.high / own.high.max() for name, own in again.items() if own.high.max() > 0})
    for name in ("b", "d", "f", "j"):
        for other in least[1:]:
            np.testing.assert_allclose(other[name], least[0][name], rtol=0.1)


def test_a_file_in_other_units_is_proven_from_the_weights_as_they_were(
    make: Callable[..., Quantised], free_network: onnx.ModelProto, feeds: list[dict[str, np.ndarray]], tmp_path: Path
) -> None:
    made = make(rescaled(free_network, 4))
    assert made.gauge.taken
    assert made.gauge.predicted_gain_db is not None
    assert made.gauge.predicted_gain_db > 1
    path = tmp_path / "file.onnx"
    onnx.save(made.model, path)
    proof = prove(path, made.source, made.recipe, feeds, threads=1)
    assert proof.failures == ()
    name = next(name for name in made.recipe.gauge if name == "c")
    made.recipe.gauge[name][3] *= 1.01  # type: ignore[index]
    found = prove(path, made.source, made.recipe, feeds, threads=1).failures
    assert {failure.partition(":")[0] for failure in found} == {"wide"}


def test_float_layers_in_other_units_are_proven_too(
    make: Callable[..., Quantised], free_network: onnx.ModelProto, feeds: list[dict[str, np.ndarray]], tmp_path: Path
) -> None:
    made = make(rescaled(free_network, 5), keep_float=["wide", "fc"])
    assert made.gauge.taken
    path = tmp_path / "file.onnx"
    onnx.save(made.model, path)
    assert prove(path, made.source, made.recipe, feeds, threads=1).failures == ()
    model = onnx.load(path)
    wide = next(node for node in model.graph.node if node.name == "wide")
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == wide.input[1])
    array = onnx.numpy_helper.to_array(tensor).copy()
    array[0, 0] *= 2
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    onnx.save(model, path)
    found = prove(path, made.source, made.recipe, feeds, threads=1).failures
    assert found == ("wide: its input 1 is not wide_weight of the folded graph",)


def test_units_are_kept_where_others_gain_less_than_a_decibel(
    make: Callable[..., Quantised], free_network: onnx.ModelProto
) -> None:
    made = make(free_network)
    assert made.gauge.n_classes > 40
    assert made.gauge.predicted_gain_db is not None
    assert made.gauge.taken is (made.gauge.predicted_gain_db > 1)
    assert bool(made.recipe.gauge) is made.gauge.taken


def terms(seed: int = 0) -> list[Any]:
    """Two tensors and the weights between them, with either kind of step; class 0 is pinned."""
    rng = np.random.default_rng(seed)
    activation = ActivationNoise(np.array([0, 1, 2, 2]), rng.random(4), rng.random(4), rng.random(4))
    inputs, outputs = rng.integers(0, 4, (2, 5)), rng.integers(0, 4, (2, 3))
    numbers = rng.random((2, 3, 5)), rng.random((2, 5)), rng.random((2, 3))
    weights = [WeightNoise(inputs, outputs, *numbers, 127, per_tensor) for per_tensor in (False, True)]
    return [activation, *weights]


def test_the_gradient_of_the_noise_is_that_of_its_formula() -> None:
    rng = np.random.default_rng(5)
    for term in terms():
        u = np.concatenate([[0.0], rng.normal(size=3)])
        gradient = np.zeros(4)
        term.add(u, gradient)
        for k in range(4):
            step = np.zeros(4)
            step[k] = 1e-6
            slope = (noise([term], u + step) - noise([term], u - step)) / 2e-6
            assert gradient[k] == pytest.approx(slope, rel=1e-5, abs=1e-12)


def test_the_noise_of_a_tensor_is_its_step_times_its_sensitivity() -> None:
    own = ActivationNoise(np.array([1, 1]), np.array([0.0, 0.0]), np.array([2.0, 0.5]), np.array([3.0, 5.0]))
    assert noise([own], np.zeros(2)) == pytest.approx((2 / 255) ** 2 / 12 * 8, rel=1e-3)


def test_least_noise_is_a_minimum_and_class_0_stays() -> None:
    found = least_noise(terms(), 4)
    assert found[0] == 0
    best = noise(terms(), found)
    rng = np.random.default_rng(6)
    for _ in range(50):
        near = found + np.concatenate([[0.0], rng.normal(size=3) * rng.choice([0.05, 1.0])])
        assert noise(terms(), near) >= best * (1 - 1e-6)


KEPT = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[N, 3, 13, 13] x) => (float[N, 5] y) {
  [stem] a = Conv <pads = [1, 1, 1, 1]> (x, stem_weight, stem_bias)
  [stem_act] b = Relu (a)
  [norm] c = BatchNormalization (b, gamma, beta, mean, variance)
  [norm_act] d = Relu (c)
  [new] e = Conv <pads = [1, 1, 1, 1]> (d, new_weight)
  [cat] f = Concat <axis = 1> (b, e)
  [times] g = Mul (f, factor)
  [act] h = Relu (g)
  [last] i = Conv (h, last_weight)
  [pool] k = GlobalAveragePool (i)
  [flat] l = Flatten (k)
  [fc] y = Gemm <transB = 1> (l, fc_weight, fc_bias)
}
"""
KEPT_SHAPES = {
    "stem_weight": (6, 3, 3, 3), "stem_bias": (6,), "gamma": (6,), "beta": (6,), "mean": (6,), "variance": (6,),
    "new_weight": (4, 6, 3, 3), "factor": (10, 1, 1), "last_weight": (8, 10, 1, 1), "fc_weight": (5, 8),
    "fc_bias": (5,),
}  # fmt: skip


def with_kept_norm() -> onnx.ModelProto:
    """A network with a BatchNorm that stays and a constant factor; variances and factors are above 0."""
    model = with_parameters(KEPT, KEPT_SHAPES)
    for tensor in model.graph.initializer:
        if tensor.name in ("variance", "factor"):
            array = np.abs(onnx.numpy_helper.to_array(tensor)) + np.float32(0.1)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    return model


def test_sensitivities_follow_the_units_through_norms_and_factors() -> None:
    plain, other = (prepared(with_kept_norm(), where="test") for _ in range(2))
    scales = in_units(other, 2.0 ** np.random.default_rng(1).uniform(-4, 4, free_classes(other)))
    before, after = sensitivities(plain.graph, {}), sensitivities(other.graph, {})
    assert {"a", "d", "e", "h", "i"} <= set(scales)
    for name in ("a", "d", "e", "h", "i"):
        np.testing.assert_allclose(after[name] * scales[name] ** 2, before[name], rtol=1e-4)


def test_the_error_does_not_depend_on_the_units_around_a_norm_that_stays(
    make: Callable[..., Quantised], samples: dict[str, np.ndarray]
) -> None:
    network = with_kept_norm()
    held_out = split_samples(samples, seed=0, where="test").held_out
    exact = network.SerializeToString()
    found = []
    for source in (network, rescaled_anyhow(network, 1)):
        own = make(source, weights="per-tensor").model.SerializeToString()
        (error,) = output_errors(own, exact, held_out, SPECS, threads=1)
        found.append(error.sqnr_db)
    assert found[1] > found[0] - 1
