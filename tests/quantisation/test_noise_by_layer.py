"""The noise of one place is that of a network which is quantised there alone, and decides what stays float."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from int8_networks import SPECS, with_parameters
from onnx import numpy_helper

from bnfold.quantisation import cheapest
from bnfold.quantisation.calibrate import observe
from bnfold.quantisation.cheapest import float_by_error
from bnfold.quantisation.first_recipe import recipe_of
from bnfold.quantisation.measure_error import output_errors, sqnr_db
from bnfold.quantisation.noise_by_layer import NoiseByLayer, noise_by_layer
from bnfold.quantisation.placement import place
from bnfold.quantisation.prepare import prepared
from bnfold.quantisation.quantise import quantise
from bnfold.quantisation.samples import Samples, split_samples
from bnfold.quantisation.stored import weight_name
from bnfold.runtime import open_session

if TYPE_CHECKING:
    from bnfold.records.recipes import Recipe


@pytest.fixture(scope="module")
def few(samples: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"x": samples["x"][:4]}


@pytest.fixture(scope="module")
def everything(network: onnx.ModelProto, few: dict[str, np.ndarray]) -> tuple[ir.Model, Recipe, NoiseByLayer]:
    """The prepared network, the recipe that has all in integers, and the noise of each place."""
    model = prepared(network, where="test")
    recipe = recipe_of(model.graph, place(model.graph), weights="per-channel", target="x86-vnni")
    observed = observe(model, list(recipe.ranges), few, SPECS, threads=1)
    recipe = dataclasses.replace(recipe, ranges={name: observed[name].range for name in recipe.ranges})
    return model, recipe, noise_by_layer(model, recipe, few, SPECS, threads=1)


def outputs(model: onnx.ModelProto, few: dict[str, np.ndarray], value: str = "y") -> np.ndarray:
    """A value of a float graph, in float64."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    if value != "y":
        proto.graph.output.append(onnx.ValueInfoProto(name=value))
    found = open_session(proto.SerializeToString(), threads=1).run([value], few)[0]
    return np.asarray(found, np.float64)


def test_every_place_in_integers_has_its_noise(everything: tuple[ir.Model, Recipe, NoiseByLayer]) -> None:
    _, recipe, noise = everything
    assert set(noise.values) == set(recipe.ranges)
    assert set(noise.weights) == {"stem", "wide", "deep", "narrow", "last", "fc"}
    assert all(own > 0 for own in [*noise.values.values(), *noise.weights.values()])


@pytest.mark.parametrize("layer", ["stem", "deep", "narrow"])
def test_the_noise_of_a_weight_is_that_of_its_integers_alone(
    everything: tuple[ir.Model, Recipe, NoiseByLayer], few: dict[str, np.ndarray], layer: str
) -> None:
    model, recipe, _ = everything
    proto = ir.to_proto(model)
    del proto.graph.value_info[:]
    made = quantise(proto, split_samples(few, seed=0, where="test"), SPECS, kept={}, choose_units=False, threads=1)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.model.graph.initializer}
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    node = next(node for node in proto.graph.node if node.name == layer)
    integers, scale = stored[weight_name(layer)].astype(np.float64), stored[f"{layer}/weight/scale"].astype(np.float64)
    exact, before = outputs(proto, few), outputs(proto, few, node.output[0])
    weight = (integers * scale.reshape(-1, 1, 1, 1)).astype(np.float32)
    constants[node.input[1]].CopyFrom(numpy_helper.from_array(weight, node.input[1]))
    shift = (outputs(proto, few, node.output[0]) - before).mean(axis=(0, 2, 3))
    bias = numpy_helper.to_array(constants[node.input[2]]) - shift
    constants[node.input[2]].CopyFrom(numpy_helper.from_array(bias.astype(np.float32), node.input[2]))
    error = outputs(proto, few) - exact
    assert recipe.weights == "per-channel"
    noise = noise_by_layer(model, made.recipe, few, SPECS, threads=1)
    assert noise.weights[layer] == pytest.approx((error**2).sum() / (exact**2).sum(), rel=0.02)


def test_the_noise_of_all_places_adds_up_to_that_of_the_file(
    everything: tuple[ir.Model, Recipe, NoiseByLayer], network: onnx.ModelProto, samples: dict[str, np.ndarray]
) -> None:
    _, _, noise = everything
    made = quantise(network, Samples(samples, samples, ""), SPECS, kept={}, choose_units=False, threads=1)
    own, exact = made.model.SerializeToString(), network.SerializeToString()
    (error,) = output_errors(own, exact, samples, SPECS, threads=1)
    assert sqnr_db(1.0, sum(noise.values.values()) + sum(noise.weights.values())) == pytest.approx(error.sqnr_db, abs=3)


N_LAYERS = 16
CHANNELS, SIDE = 64, 14


def chain() -> onnx.ModelProto:
    """Equal 1x1 convolutions, layer0 to layer16, each with a Relu but for the last, which writes the output."""
    shape = f"float[N, {CHANNELS}, {SIDE}, {SIDE}]"
    body = "".join(
        f"[layer{k}] c{k} = Conv ({f'r{k - 1}' if k else 'x'}, w{k}) [act{k}] r{k} = Relu (c{k})\n"
        for k in range(N_LAYERS)
    )
    text = f'<ir_version: 10, opset_import: ["" : 20]> net ({shape} x) => ({shape} y) {{ {body} '
    last = f"[layer{N_LAYERS}] y = Conv (r{N_LAYERS - 1}, w{N_LAYERS}) }}"
    return with_parameters(text + last, {f"w{k}": (CHANNELS, CHANNELS, 1, 1) for k in range(N_LAYERS + 1)})


def test_a_layer_stays_float_where_it_makes_more_of_the_noise_than_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = prepared(chain(), where="test").graph
    values = {"x": 0.01, **{f"r{k}": 0.01 for k in range(N_LAYERS)}}
    even = NoiseByLayer(values, {f"layer{k}": 0.01 for k in range(N_LAYERS)})
    assert float_by_error(graph, "x86-vnni", even, ()) == ()
    noisy = NoiseByLayer(values, {**even.weights, "layer0": 5.0})
    assert float_by_error(graph, "x86-vnni", noisy, ()) == ("layer0",)
    assert float_by_error(graph, "x86-vnni", noisy.times(1e-5), ()) == ()  # 43 dB of signal over all of the noise
    rounded = NoiseByLayer({**values, "x": 5.0}, even.weights)
    assert float_by_error(graph, "x86-vnni", rounded, ()) == ("layer0",)
    between = NoiseByLayer({**values, "r3": 5.0}, even.weights)  # whoever writes or reads it in integers rounds it
    assert float_by_error(graph, "x86-vnni", between, ()) == ("layer3", "layer4")
    monkeypatch.setattr(cheapest, "WORTH", 0.0)
    assert float_by_error(graph, "x86-vnni", noisy, ()) == ()


def test_what_stays_float_for_its_noise_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first layer reads a channel that is far larger than all others and counts little: 8 bits lose the others."""
    model = chain()
    first = next(tensor for tensor in model.graph.initializer if tensor.name == "w0")
    weight = numpy_helper.to_array(first).copy()
    weight[:, 0] *= 1e-3
    first.CopyFrom(numpy_helper.from_array(weight, "w0"))
    x = np.random.default_rng(0).standard_normal((8, CHANNELS, SIDE, SIDE)).astype(np.float32)
    x[:, 0] *= 1000.0
    specs = (dataclasses.replace(SPECS[0], shape=(None, CHANNELS, SIDE, SIDE)),)
    found = {}
    for worth in (0.0, 0.5):
        monkeypatch.setattr(cheapest, "WORTH", worth)
        made = quantise(model, Samples({"x": x}, {"x": x}, ""), specs, choose_units=False, threads=1)
        (error,) = output_errors(made.model.SerializeToString(), model.SerializeToString(), {"x": x}, specs, threads=1)
        found[worth] = dict(made.recipe.reasons), error.sqnr_db
    last = {f"layer{N_LAYERS}": "graph_output"}
    assert found[0.0][0] == last
    assert found[0.5][0] == {"layer0": "error", **last}
    assert found[0.5][1] > found[0.0][1] + 10
