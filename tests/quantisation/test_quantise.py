"""From samples to the file: what is in integers, ranges, biases, and the same bytes every time."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.parser
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from int8_networks import SHAPES, SPECS, TEXT, with_parameters
from onnx import numpy_helper

from bnfold.derivation.integer_parameters import _of_least_error
from bnfold.errors import InputRefused
from bnfold.quantisation.first_recipe import WEIGHT_LIMITS
from bnfold.quantisation.grids import grid_of, integer_bias, integer_weight
from bnfold.quantisation.measure_error import output_errors, share_outside, sqnr_db
from bnfold.quantisation.placement import place
from bnfold.quantisation.prepare import prepared
from bnfold.quantisation.prove import compare_with_simulation, prove
from bnfold.quantisation.quantise import quantise
from bnfold.quantisation.samples import Samples, batches, split_samples
from bnfold.quantisation.simulate import Simulation
from bnfold.records import InputSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from bnfold.quantisation.quantise import Quantised
    from bnfold.records.recipes import WeightScales

HEAD = '<ir_version: 10, opset_import: ["" : 20]> net '


def reasons(body: str, shapes: dict[str, tuple[int, ...]], **options: Any) -> Mapping[str, str]:
    """Why layers of a network from (N, 3, 8, 8) stay float."""
    model = with_parameters(f"{HEAD}(float[N, 3, 8, 8] x) => (float[N, M, K, L] y) {body}", shapes)
    return place(prepared(model, where="test").graph, **options).reasons


# Grids: scales and zero points.


@given(low=st.floats(-1e4, 0), high=st.floats(0, 1e4))
def test_the_grid_holds_zero_and_both_ends_of_the_range(low: float, high: float) -> None:
    grid = grid_of(low, high)
    ends = (np.array([0.0, 255.0]) - int(grid.zero_point)) * float(grid.scale)
    assert ends[0] - 0.51 * grid.scale <= low
    assert high <= ends[1] + 0.51 * grid.scale
    assert 0 <= int(grid.zero_point) <= 255


def test_a_range_from_zero_has_zero_point_zero_so_that_saturation_is_a_relu() -> None:
    assert grid_of(0.0, 6.0).zero_point == 0
    assert grid_of(0.0, 0.0).scale == 1.0
    with pytest.raises(ValueError, match="0 must lie in the range"):
        grid_of(1.0, 2.0)


def test_a_channel_without_weights_keeps_its_bias() -> None:
    w, bias = np.zeros((2, 3, 1, 1)), np.array([0.7, 0.0])
    w[1] = 0.5
    quantised = integer_weight(w, 0, "per-channel", 127, input_scale=np.float32(1e-3), bias=bias)
    values, scale = integer_bias(bias, np.float32(1e-3), quantised.scale)
    assert quantised.values[0].tolist() == np.zeros((3, 1, 1)).tolist()
    assert quantised.values[1].max() == 127
    np.testing.assert_allclose(values * scale.astype(np.float64), bias, rtol=1e-6, atol=1e-9)


@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 4), st.sampled_from([(3,), (3, 3), (5, 1), (1, 1), (2, 3, 3)])),
    scales=st.sampled_from(["per-channel", "per-tensor"]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(deadline=None)
def test_sums_over_the_taps_of_a_channel_are_right_within_half_a_step(
    shape: tuple[int, int, tuple[int, ...]], scales: WeightScales, seed: int
) -> None:
    w = np.random.default_rng(seed).standard_normal((*shape[:2], *shape[2]))
    made = integer_weight(w, 0, scales, 127, input_scale=np.float32(1e-3), bias=None)
    exact = w / np.float64(made.scale).reshape(-1, *(1,) * (w.ndim - 1))
    off = made.values - exact
    assert np.abs(off.reshape(*w.shape[:2], -1).sum(axis=2)).max() <= 0.5 + 1e-9
    assert np.abs(off).max() < 1


def test_a_smooth_image_gains_by_right_sums() -> None:
    rng = np.random.default_rng(0)
    w = rng.standard_normal((16, 1, 3, 3))
    made = integer_weight(w, 0, "per-channel", 127, input_scale=np.float32(1e-3), bias=None)
    steps = np.abs(w).max(axis=(1, 2, 3), keepdims=True) / 127
    image = np.cumsum(rng.standard_normal((400, 3, 3)), axis=0)[:, :1, :1] + rng.normal(0, 0.3, (400, 3, 3))
    own, nearest = (
        (np.einsum("mkl,nkl->nm", (rounded - w)[:, 0], image) ** 2).mean()
        for rounded in (made.values * np.float64(made.scale).reshape(-1, 1, 1, 1), np.rint(w / steps) * steps)
    )
    assert own < nearest / 10


def test_steps_of_few_weights_are_those_of_least_error() -> None:
    w = np.random.default_rng(0).standard_normal((200, 12, 1, 1))
    largest = np.abs(w).max(axis=(1, 2, 3)) / 127
    made = integer_weight(w, 0, "per-channel", 127, input_scale=np.float32(1e-3), bias=None)
    stretch = made.scale / largest
    assert stretch.min() >= 1 - 1e-6
    assert stretch.max() <= 1.15 + 1e-6
    own, nearest = (
        (np.rint(w / steps.reshape(-1, 1, 1, 1)) * steps.reshape(-1, 1, 1, 1) - w) ** 2
        for steps in (np.float64(made.scale), largest)
    )
    assert own.sum() < 0.7 * nearest.sum()
    many = np.random.default_rng(0).standard_normal((3, 513))
    made = integer_weight(many, 0, "per-channel", 127, input_scale=np.float32(1e-3), bias=None)
    np.testing.assert_allclose(made.scale, np.abs(many).max(axis=1) / 127, rtol=1e-6)


BLUR = np.outer([1, 2, 1], [1, 2, 1]) / 16
TIED = {
    "mean": np.full((3, 2, 3, 3), 1 / 9),
    "blur": np.stack([BLUR, -BLUR / 2, BLUR.T]).reshape(3, 1, 3, 3),
    "edge": np.outer([1, 2, 1], [-1, 0, 1]).reshape(1, 1, 3, 3) * np.array([1, 0.3, -0.5]).reshape(3, 1, 1, 1),
    "signs": np.random.default_rng(0).choice([-0.1, 0.1], (3, 2, 5, 5)),
    "halves": np.random.default_rng(0).integers(-15, 16, (3, 2, 3, 3)) / 16 + 0.5,
    "none": np.zeros((3, 2, 3, 3)),
}


@pytest.mark.parametrize("scales", ["per-channel", "per-tensor"])
@pytest.mark.parametrize("weight", TIED.values(), ids=TIED)
def test_of_weights_that_tie_the_derivation_takes_the_same(weight: np.ndarray, scales: WeightScales) -> None:
    made = integer_weight(weight, 0, scales, 127, input_scale=np.float32(1e-3), bias=None)
    rows = weight.reshape(len(weight), -1)
    peaks = np.abs(rows).max(axis=1)
    steps = np.where(peaks > 0, peaks / 127, 1.0).astype(np.float32)
    derived, integers = _of_least_error(
        rows, steps if scales == "per-channel" else steps.max(), math.prod(weight.shape[2:]), 127
    )
    np.testing.assert_array_equal(made.values, integers.reshape(weight.shape))
    np.testing.assert_array_equal(np.float64(made.scale), derived)


def test_one_scale_for_all_channels(make: Callable[..., Quantised]) -> None:
    constants = {tensor.name: tensor for tensor in make(weights="per-tensor").model.graph.initializer}
    assert {tuple(constants[f"{name}/weight/scale"].dims) for name in ("stem", "deep", "fc")} == {()}


@pytest.mark.parametrize(("target", "limit"), [("x86-vnni", 127), ("arm", 127), ("x86", 63)])
def test_weights_are_as_large_as_the_processor_can_add_up(
    make: Callable[..., Quantised], target: str, limit: int
) -> None:
    model = make(target=target, correct_biases=False).model
    largest = max(
        int(np.abs(numpy_helper.to_array(tensor).astype(int)).max())
        for tensor in model.graph.initializer
        if tensor.name.endswith("/weight/s8")
    )
    assert largest == limit == WEIGHT_LIMITS[target]


# The graph in the form that has integer kernels.


@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_mean_over_space_becomes_a_pool(keepdims: int) -> None:
    shape = "N, 3, 1, 1" if keepdims else "N, 3"
    model = onnx.parser.parse_model(
        f"{HEAD}(float[N, 3, 4, 5] x) => (float[{shape}] y) <int64[2] axes = {{2, -1}}> "
        f"{{ y = ReduceMean <keepdims = {keepdims}> (x, axes) }}"
    )
    own = onnx.ModelProto.FromString(_serialized(prepared(model, where="test")))
    assert [node.op_type for node in own.graph.node] == ["GlobalAveragePool"] + ["Flatten"] * (1 - keepdims)
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(_run(own, {"x": x}), _run(model, {"x": x}), rtol=1e-6)


def test_a_product_and_its_bias_become_a_gemm() -> None:
    body = "[fc] a = MatMul (x, w) y = Add (b, a)"
    text = f"{HEAD}(float[N, 6] x) => (float[N, 4] y) {{ {body} }}"
    model = with_parameters(text, {"w": (6, 4), "b": (4,)})
    own = onnx.ModelProto.FromString(_serialized(prepared(model, where="test")))
    assert [(node.op_type, node.name) for node in own.graph.node] == [("Gemm", "fc")]
    x = np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)
    np.testing.assert_allclose(_run(own, {"x": x}), _run(model, {"x": x}), rtol=1e-5, atol=1e-6)


def test_a_file_that_is_quantised_already_is_refused(made: Quantised) -> None:
    with pytest.raises(InputRefused, match="quantised already in again, node"):
        prepared(made.model, where="again")


def test_an_opset_without_scales_per_channel_is_refused() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 7, opset_import: ["" : 12]> net (float[N, 3] x) => (float[N, 3] y) { y = Relu (x) }'
    )
    with pytest.raises(InputRefused, match=r"found opset 12, expected opset 13 or newer; convert it"):
        prepared(model, where="old")


# What is in integers.


def test_an_addition_with_a_float_neighbour_stays_float() -> None:
    body = """{ [a] a = Conv (x, a_w) [s] s = Sigmoid (a) [b] b = Conv (x, b_w) [add] t = Add (s, b)
                [last] u = Conv (t, c_w) y = Sigmoid (u) }"""
    found = reasons(body, {"a_w": (4, 3, 1, 1), "b_w": (4, 3, 1, 1), "c_w": (4, 4, 1, 1)})
    assert found == {"add": "float_neighbours"}


def test_what_writes_an_output_stays_float() -> None:
    shapes = {"a_w": (4, 3, 1, 1), "b_w": (4, 4, 1, 1)}
    assert reasons("{ [a] a = Conv (x, a_w) [b] y = Conv (a, b_w) }", shapes) == {"b": "graph_output"}
    through = "{ [a] a = Conv (x, a_w) [b] b = Conv (a, b_w) y = Transpose <perm = [0, 2, 3, 1]> (b) }"
    assert reasons(through, shapes) == {"b": "graph_output"}


def test_a_weight_that_is_computed_stays_float() -> None:
    body = "{ [a] a = Conv (x, a_w) w = Neg (b_w) [b] b = Conv (a, w) y = Sigmoid (b) }"
    assert reasons(body, {"a_w": (4, 3, 1, 1), "b_w": (4, 4, 1, 1)}) == {"b": "not_constant"}


def test_sums_that_could_leave_32_bits_stay_float() -> None:
    text = f"{HEAD}(float[N, 40000] x) => (float[N, 2] y) {{ [fc] y = Gemm (x, w) }}"
    model = with_parameters(text, {"w": (40000, 2)})
    assert place(prepared(model, where="test").graph).reasons == {"fc": "accumulator"}


def test_layers_that_are_to_stay_float_are_named_by_layer_module_or_node(make: Callable[..., Quantised]) -> None:
    assert make(keep_float=["wide"]).recipe.reasons["wide"] == "asked"
    with pytest.raises(InputRefused, match=r"no such layer in .*found wid, expected stem"):
        make(keep_float=["wid"])


def test_a_network_without_layers_is_refused() -> None:
    model = onnx.parser.parse_model(f"{HEAD}(float[N, 3, 13, 13] x) => (float[N, 3, 13, 13] y) {{ y = Relu (x) }}")
    parts = split_samples(
        {"x": np.random.default_rng(0).standard_normal((4, 3, 13, 13), np.float32)}, seed=0, where="s"
    )
    with pytest.raises(InputRefused, match="no layer can be computed in integers"):
        quantise(model, parts, SPECS, threads=1)


def test_a_network_of_labels_is_refused() -> None:
    text = f"{HEAD}(float[N, 8] x) => (int64[N, 1] y) {{ [fc] a = Gemm (x, w) y = ArgMax <axis = 1> (a) }}"
    rows = {"x": np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)}
    with pytest.raises(InputRefused, match=r"no output of the network is a float.*found y INT64"):
        quantise(with_parameters(text, {"w": (8, 3)}), Samples(rows, rows, ""), (InputSpec("x", (None, 8), "float32"),))


@pytest.mark.parametrize("judged", [False, True])
def test_samples_that_the_network_does_not_take_are_refused(judged: bool) -> None:
    """An index that the table has not: in what gives the ranges, or in what the file is judged on."""
    text = f"{HEAD}(int64[N, 8] x) => (float[N, 3] y) {{ e = Gather (table, x) f = Flatten (e) [fc] y = Gemm (f, w) }}"
    model = with_parameters(text, {"table": (5, 4), "w": (32, 3)})
    rows = {"x": np.random.default_rng(0).integers(90, 95, (12, 8))}
    spec = (InputSpec("x", (None, 8), "int64"),)
    file = model.SerializeToString()
    with pytest.raises(InputRefused, match=r"the network does not run on the samples in x \(.*; give samples that"):
        output_errors(file, file, rows, spec, threads=1) if judged else quantise(model, Samples(rows, rows, ""), spec)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.tuples(*[st.integers(1, 3), st.integers(1, 2), st.integers(0, 2), st.integers(1, 2)]),
    groups=st.sampled_from([1, 2, 4]), with_bias=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_convolutions_of_any_form_agree_with_the_simulation_exactly(
    tmp_path: Path, sizes: tuple[int, int, int, int], groups: int, with_bias: bool, seed: int
) -> None:
    kernel, stride, pad, dilation = sizes
    form = f"strides = [{stride}, 1], pads = [{pad}, 0, 1, {pad}], dilations = [1, {dilation}], group = {groups}"
    bias = ", offset" if with_bias else ""
    body = (
        f"{{ [conv] a = Conv <{form}> (x, w{bias}) [act] b = Relu (a) [mean] c = GlobalAveragePool (b) y = Exp (c) }}"
    )
    text = f"{HEAD}(float[N, 4, 7, 9] x) => (float[N, 8, 1, 1] y) {body}"
    shapes: dict[str, tuple[int, ...]] = {"w": (8, 4 // groups, kernel, kernel)} | (
        {"offset": (8,)} if with_bias else {}
    )
    model = with_parameters(text, shapes, seed)
    specs = (InputSpec("x", (None, 4, 7, 9), "float32"),)
    x = np.random.default_rng(seed).standard_normal((6, 4, 7, 9)).astype(np.float32)
    parts = split_samples({"x": x}, seed=0, where="test")
    made = quantise(model, parts, specs, kept={}, threads=1)
    path = tmp_path / "conv.onnx"
    onnx.save(made.model, path)
    compared = compare_with_simulation(path, Simulation(made.model), [{"x": x[:2]}], threads=1)
    assert compared.failures == []
    assert compared.n_off_by_one == 0


# Samples.


def test_a_part_of_the_samples_is_held_out_and_ranges_come_from_the_rest(make: Callable[..., Quantised]) -> None:
    x = np.zeros((8, 3, 13, 13), np.float32)
    x[:, 0, 0, 0] = np.arange(8)
    parts = split_samples({"x": x}, seed=3, where="test")
    firsts = [set(part["x"][:, 0, 0, 0].tolist()) for part in (parts.calibration, parts.held_out)]
    assert [len(first) for first in firsts] == [6, 2]
    assert firsts[0] | firsts[1] == set(range(8))
    assert split_samples({"x": x}, seed=3, where="test").held_out["x"].tolist() == parts.held_out["x"].tolist()
    assert {parts.sha256} != {split_samples({"x": x + 1}, seed=3, where="test").sha256}
    made = make(with_parameters(TEXT, SHAPES))
    assert all(low <= 0 <= high for low, high in made.recipe.ranges.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:0], "found no sample, expected at least two"),
        (lambda x: x[:1], "found one sample, expected at least two"),
        (lambda x: np.repeat(x[:1], 4, axis=0), "all samples are the same"),
        (lambda x: np.ones_like(x) * np.arange(len(x)).reshape(-1, 1, 1, 1), "every sample is constant"),
        (lambda x: np.where(np.arange(len(x)).reshape(-1, 1, 1, 1) == 2, np.nan, x), "first in sample 2"),
    ],
)
def test_samples_that_say_nothing_are_refused(
    samples: dict[str, np.ndarray], change: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    with pytest.raises(InputRefused, match=message):
        split_samples({"x": change(samples["x"]).astype(np.float32)}, seed=0, where="test")


def test_ranges_do_not_depend_on_how_many_samples_run_at_once(
    network: onnx.ModelProto, samples: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bnfold.quantisation import calibrate

    found = []
    for most in (1, 7, 32):
        monkeypatch.setattr(calibrate, "MOST_SAMPLES", most)
        seen = calibrate.observe(prepared(network, where="t"), ["b", "x", "m"], samples, SPECS, means=["b"], n_means=9)
        found.append(seen)
    assert [seen["x"].range for seen in found] == [(samples["x"].min(), samples["x"].max())] * 3
    assert found[0]["b"].range == pytest.approx(found[2]["b"].range, rel=1e-5)
    first, last = found[0]["b"].mean, found[2]["b"].mean
    assert first is not None
    assert last is not None
    np.testing.assert_allclose(first, last, atol=1e-5)
    exposed = prepared(network, where="t")
    reference = calibrate.observe(exposed, ["b"], {"x": samples["x"][:9]}, SPECS, means=["b"])["b"].mean
    assert reference is not None
    np.testing.assert_allclose(first, reference, atol=1e-5)


# Biases, bytes and errors.


def test_after_the_correction_layers_are_off_by_nothing_on_average(
    make: Callable[..., Quantised], samples: dict[str, np.ndarray]
) -> None:
    parts = split_samples(samples, seed=0, where="test")
    biases = []
    for correct in (False, True):
        made = make(weights="per-tensor", correct_biases=correct)
        errors = []
        for feed in batches(parts.calibration, SPECS, 8):
            exact = _run(_exposing(made.reference, "a"), feed, "a")
            own = _run(_exposing(_float_twin(made.model), "a"), feed, "a")
            errors.append(own - exact)
        biases.append(np.abs(np.concatenate(errors).mean(axis=(0, 2, 3))).max())
    half_a_step = (
        max(numpy_helper.to_array(t).max() for t in made.model.graph.initializer if t.name == "stem/bias/scale") / 2
    )
    assert biases[1] < 1.01 * half_a_step < biases[0] / 4


def test_the_correction_gains_on_samples_that_were_held_out(samples: dict[str, np.ndarray], tmp_path: Path) -> None:
    """Where values are far from 0, and weights are rounded by themselves: of groups, without taps."""
    model = with_parameters(
        f"""{HEAD}(float[N, 3, 13, 13] x) => (float[N, 6, 13, 13] y) {{
            [a] c = Conv <group = 3> (x, u) [b] d = Relu (c) [c] e = Conv <group = 2> (d, v) [d] f = Relu (e)
            [e] y = Conv <group = 2> (f, w)
        }}""",
        {"u": (24, 1, 1, 1), "v": (24, 12, 1, 1), "w": (6, 12, 1, 1)},
    )
    parts = split_samples({"x": samples["x"] + 3}, seed=0, where="test")
    onnx.save(model, tmp_path / "float.onnx")
    found = []
    for correct in (False, True):
        made = quantise(model, parts, SPECS, weights="per-tensor", kept={}, correct_biases=correct, threads=1)
        onnx.save(made.model, tmp_path / "int8.onnx")
        (error,) = output_errors(tmp_path / "int8.onnx", tmp_path / "float.onnx", parts.held_out, SPECS, threads=1)
        found.append(error.sqnr_db)
    assert found[1] > found[0] + 1


def test_the_same_input_gives_the_same_bytes(make: Callable[..., Quantised]) -> None:
    first, second = (make().model.SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_signal_over_noise_is_in_decibels() -> None:
    assert sqnr_db(100.0, 1.0) == pytest.approx(20)
    assert sqnr_db(1.0, 0.0) == 300
    assert sqnr_db(0.0, 1.0) == -300


def test_inputs_outside_of_the_range_are_counted() -> None:
    x = np.array([[-2.0, 0.0, 0.5, 3.0]], np.float32)
    assert share_outside({"x": x}, {"x": (-1.0, 1.0)}) == 0.5
    assert share_outside({"x": x}, {}) == 0.0


def test_batches_of_a_fixed_size_are_filled_up() -> None:
    x = np.arange(5, dtype=np.float32).reshape(5, 1)
    feeds = list(batches({"x": x}, (InputSpec("x", (2, 1), "float32"),), 8))
    assert [feed["x"].ravel().tolist() for feed in feeds] == [[0, 1], [2, 3], [4, 4]]


def test_names_and_metadata_of_the_folded_file_stay(make: Callable[..., Quantised], network: onnx.ModelProto) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(network)
    onnx.helper.set_model_props(model, {"bnfold.classes": "a b"})
    made = make(model)
    assert {entry.key: entry.value for entry in made.model.metadata_props} == {"bnfold.classes": "a b"}
    assert not made.model.graph.value_info
    assert [value.type for value in made.model.graph.output] == [value.type for value in network.graph.output]
    assert dataclasses.asdict(made.recipe.nodes[0])["activation"] == "stem_act"


def _serialized(model: Any) -> bytes:
    import onnx_ir as ir

    serialized: bytes = ir.to_proto(model).SerializeToString()
    return serialized


def _run(model: onnx.ModelProto, feed: dict[str, np.ndarray], name: str | None = None) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options)
    return np.asarray(session.run([name] if name else None, feed)[0], np.float64)


def _exposing(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return copy


def _float_twin(model: onnx.ModelProto) -> onnx.ModelProto:
    """The file with the first layer's float output under the name that it has in the folded graph."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    stem = next(node for node in copy.graph.node if node.name == "stem")
    old = stem.output[0]
    for node in copy.graph.node:
        node.input[:] = ["a" if name == old else name for name in node.input]
    stem.output[0] = "a"
    return copy


def test_for_arm_activations_are_signed_and_proven(
    make: Callable[..., Quantised], made: Quantised, feeds: list[dict[str, np.ndarray]], tmp_path: Path
) -> None:
    own = make(target="arm")
    zero_points = {
        name: [
            onnx.numpy_helper.to_array(tensor)
            for tensor in model.graph.initializer
            if tensor.name.endswith("/zero_point")
            and not tensor.name.endswith(("weight/zero_point", "bias/zero_point"))
        ]
        for name, model in (("arm", own.model), ("x86", made.model))
    }
    assert {array.dtype for array in zero_points["arm"]} == {np.dtype(np.int8)}
    assert {array.dtype for array in zero_points["x86"]} == {np.dtype(np.uint8)}
    path = tmp_path / "arm.onnx"
    onnx.save(own.model, path)
    proof = prove(path, own.source, own.recipe, feeds, threads=1)
    assert proof.failures == ()
    assert proof.facts.n_compared > 1000
    wrong = dataclasses.replace(own.recipe, activations="u8")
    assert any("its integers are int8" in failure for failure in prove(path, own.source, wrong, feeds).failures)
