"""int8 files of pixels: bytes are the integers of the first convolutions, a channel of ones is 255."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from int8_networks import with_parameters
from onnx import numpy_helper

from bnfold.derivation.integers import Derivation
from bnfold.export import finish
from bnfold.folding import fold_model
from bnfold.graph.preprocessing_nodes import insert_preprocessing
from bnfold.quantisation import choose_units
from bnfold.quantisation import quantise as quantise_module
from bnfold.quantisation.kernels import executed_nodes
from bnfold.quantisation.measure_error import layer_sqnr
from bnfold.quantisation.prove import prove
from bnfold.quantisation.quantise import Quantised, quantise
from bnfold.quantisation.samples import batches, split_samples
from bnfold.records import InputSpec
from bnfold.records.file_facts import Preprocessing
from bnfold.records.input_format import InputFormat
from bnfold.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Callable

IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
SIZE = 32
MOST_LOST_DB = 0.5
HEAD = (
    "[relu] b = Relu (a) [two] c = Conv <pads = [1, 1, 1, 1]> (b, v) [mean] m = GlobalAveragePool (c) y = Flatten (m)"
)
BORDER = "p = Constant <value = int64[8] {0, 0, 1, 1, 0, 0, 1, 1}> () [pad] t = Pad (x, p)"
STEMS = {
    "padded": "[one] a = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w, b0)",
    "not padded": "[one] a = Conv (x, w, b0)",
    "padded apart": f"{BORDER} [one] a = Conv (t, w)",
    "padded apart and not": f"{BORDER} [one] d = Conv (t, w) [other] e = Conv <pads = [1, 1, 1, 1]> (x, u) "
    "[positive] r = Relu (e) [sum] a = Add (d, r)",
    "grouped": "[one] a = Conv <pads = [1, 1, 1, 1], group = 3> (x, g, b0)",
}
SHAPES = {"w": (12, 3, 3, 3), "u": (12, 3, 3, 3), "g": (12, 1, 3, 3), "b0": (12,), "v": (8, 12, 3, 3)}


def network(stem: str) -> onnx.ModelProto:
    text = f"""<ir_version: 10, opset_import: ["" : 20]>
    net (float[N, 3, {SIZE}, {SIZE}] x) => (float[N, 8] y) {{ {stem} {HEAD} }}"""
    read = {name for node in onnx.parser.parse_model(text).graph.node for name in node.input}
    return with_parameters(text, {name: shape for name, shape in SHAPES.items() if name in read})


def photographs(n: int) -> np.ndarray:
    """Smooth fields of three channels with an edge, brighter and darker ones, as bytes (n, height, width, 3)."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    found = []
    for _ in range(n):
        shape = rng.uniform(0, 2 * np.pi, (2, 3)) + np.stack([y, x], -1)[..., None] * rng.uniform(2, 14, (2, 3))
        edge = (y * rng.normal() + x * rng.normal() > rng.normal() / 3)[..., None] * rng.uniform(-70, 70, 3)
        found.append(rng.uniform(40, 200) + 45 * np.sin(shape).sum(axis=2) + edge + rng.normal(0, 5, (SIZE, SIZE, 3)))
    return np.clip(np.stack(found), 0, 255).round().astype(np.uint8)


def normalised(pixels: np.ndarray) -> np.ndarray:
    """What the network itself reads, of pixels with blue first."""
    images = (pixels[..., ::-1] / 255 - np.array(IMAGENET.mean)) / np.array(IMAGENET.std)
    return images.astype(np.float32).transpose(0, 3, 1, 2)


@dataclasses.dataclass(frozen=True)
class Case:
    made: Quantised
    digits: Any
    held_out: list[dict[str, np.ndarray]]

    def prove(self, folder: Path) -> Any:
        onnx.save(self.made.model, folder / "file.onnx")
        return prove(folder / "file.onnx", self.made.source, self.made.recipe, self.held_out[:3], digits=self.digits)

    def derived(self, model: onnx.ModelProto | None = None) -> list[str]:
        return Derivation(self.made.source, model or self.made.model, self.made.recipe, self.digits).differences

    def sqnr(self) -> float:
        return layer_sqnr(self.made.model, self.made.reference, ["b"], self.held_out)["b"]


@pytest.fixture(scope="module")
def make() -> Callable[..., Case]:
    def run(
        stem: str, *, pixels: bool = True, preprocessing: Preprocessing = IMAGENET, layout: str = "nhwc", **options: Any
    ) -> Case:
        images = photographs(48)
        model = ir.from_proto(network(STEMS[stem]))
        if pixels:
            form = InputFormat("x", preprocessing, channels="bgr", layout=layout)
            insert_preprocessing(model, form)
        ledger = fold_model(model, pixels="x" if pixels else None)
        samples = {"x": images if pixels else normalised(images)}
        if pixels and layout == "nchw":
            samples["x"] = images.transpose(0, 3, 1, 2)
        spec = (InputSpec("x", (None, *samples["x"].shape[1:]), str(samples["x"].dtype)),)
        parts = split_samples(samples, seed=0, where="test")
        digits = ledger.certificate.parameters
        made = quantise(finish(model), parts, spec, **{"kept": {}, **options}, threads=1, digits=digits)
        return Case(made, digits, list(batches(parts.held_out, spec, 1)))

    return run


@pytest.mark.parametrize("by_cost", [False, True])
@pytest.mark.parametrize("left", [(), ("one",), ("other",), ("one", "other"), ("two",)])
@pytest.mark.parametrize(("stem", "units"), [("padded", True), ("padded", False), ("padded apart and not", False)])
def test_bytes_stay_as_they_were_made_for_another_recipe(make, tmp_path, monkeypatch, *, left, stem, units, by_cost):
    """By cost first, by noise then: the graph whose ones are 255 already, or are not, is planned again."""
    names = [name for name in left if f"[{name}]" in STEMS[stem] + HEAD]
    monkeypatch.setattr(quantise_module, "float_by_cost", lambda *_: tuple(names) if by_cost else ())
    monkeypatch.setattr(quantise_module, "float_by_error", lambda *_: tuple(names))
    monkeypatch.setattr(choose_units, "LEAST_GAIN_DB", -np.inf)
    case = make(stem, kept=None, choose_units=units)
    assert case.made.gauge.taken is units
    assert case.derived() == []
    assert case.prove(tmp_path).failures == ()
    floats = {name for name, reason in case.made.recipe.reasons.items() if reason == ("cost" if by_cost else "error")}
    assert floats >= set(names)


def kinds_in_front(model: onnx.ModelProto, node: onnx.NodeProto) -> list[str]:
    """The operators between the input of a graph and what a node reads, the last one first."""
    makes = {name: each for each in model.graph.node for name in each.output}
    found, name = [], node.input[0]
    while name in makes:
        found.append(makes[name].op_type)
        name = makes[name].input[0]
    return found


@pytest.mark.parametrize("stem", STEMS)
def test_the_first_layer_loses_no_more_than_behind_a_quantised_input(make, tmp_path, stem):
    case = make(stem)
    proof = case.prove(tmp_path)
    assert proof.failures == ()
    assert case.sqnr() >= make(stem, pixels=False).sqnr() - MOST_LOST_DB


BYTES_PADDED = f"""
<ir_version: 10, opset_import: ["" : 20]>
net (uint8[N, 3, {SIZE}, {SIZE}] x) => (float[N, 8] y)
<uint8 one = {{1}}, float nothing = {{0.0}}, int64[8] more = {{0, 0, 0, 0, 0, 1, 0, 0}},
 int64[8] p = {{0, 0, 1, 1, 0, 0, 1, 1}}> {{
  [ones] o = Pad (x, more, one) [cast] f = Cast <to = 1> (o) [border] t = Pad (f, p, nothing) [one] a = Conv (t, w4)
  {HEAD} }}
"""


@pytest.mark.parametrize("units", [True, False])
def test_a_border_is_padded_in_bytes_whoever_wrote_the_file(tmp_path, units):
    model = with_parameters(BYTES_PADDED, {"w4": (12, 4, 3, 3), "v": SHAPES["v"]})
    samples = {"x": photographs(48).transpose(0, 3, 1, 2)}
    spec = (InputSpec("x", (None, 3, SIZE, SIZE), "uint8"),)
    parts = split_samples(samples, seed=0, where="test")
    case = Case(
        quantise(model, parts, spec, kept={}, threads=1, choose_units=units), {}, list(batches(parts.held_out, spec, 1))
    )
    assert case.prove(tmp_path).failures == ()
    nodes = {node.name: node for node in case.made.model.graph.node}
    assert kinds_in_front(case.made.model, nodes["one"]) == ["DequantizeLinear", "Pad", "Pad"]
    ((_, scale),) = case.made.recipe.pixels.items()
    assert scale.tolist() == [1, 1, 1, 255]
    assert case.sqnr() > 30
    exact = open_session(model.SerializeToString()).run(None, case.held_out[0])[0]
    prepared = open_session(case.made.source.SerializeToString()).run(None, case.held_out[0])[0]
    reference = open_session(case.made.reference.SerializeToString()).run(None, case.held_out[0])[0]
    np.testing.assert_allclose(prepared, exact, rtol=0, atol=1e-4 * np.abs(exact).max())
    np.testing.assert_allclose(reference, exact, rtol=0, atol=1e-4 * np.abs(exact).max())


@pytest.mark.parametrize(
    ("stem", "in_front"),
    [
        ("padded", ["DequantizeLinear", "Pad", "Transpose"]),
        ("not padded", ["DequantizeLinear", "Transpose"]),
        ("padded apart", ["DequantizeLinear", "Pad", "Transpose"]),
        ("grouped", ["DequantizeLinear", "Gather", "Pad", "Transpose"]),
    ],
)
def test_nothing_is_quantised_in_front_of_the_first_convolution(make, tmp_path, stem, in_front):
    case = make(stem)
    model, nodes = case.made.model, {node.name: node for node in case.made.model.graph.node}
    assert kinds_in_front(model, nodes["one"]) == in_front
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    pads = [node for node in nodes.values() if node.op_type == "Pad"]
    filled = [constants[node.input[2]] if len(node.input) > 2 else np.uint8(0) for node in pads]
    assert [(int(value), value.dtype) for value in filled if value.any()] == [(255, np.uint8)] * ("Pad" in in_front)
    scale, zero = (
        constants[name] for name in next(n for n in nodes.values() if n.output[0] == nodes["one"].input[0]).input[1:]
    )
    assert (float(scale), int(zero), zero.dtype) == (1.0, 0, np.uint8)
    onnx.save(model, tmp_path / "file.onnx")
    executed = executed_nodes(tmp_path / "file.onnx", threads=1)
    assert [node.kind for node in executed if node.layer == "one"] == ["QLinearConv"]
    assert not {"QuantizeLinear", "Cast", "Conv"} & {node.kind for node in executed}


def test_pixels_in_the_networks_own_layout_are_read_as_they_are(make, tmp_path):
    case = make("not padded", layout="nchw")
    assert case.prove(tmp_path).failures == ()
    nodes = {node.name: node for node in case.made.model.graph.node}
    assert kinds_in_front(case.made.model, nodes["one"]) == ["DequantizeLinear"]


def test_a_mean_of_zero_needs_no_ones(make, tmp_path):
    case = make("padded", preprocessing=Preprocessing(mean=(0.0,), std=(0.5,)))
    assert case.prove(tmp_path).failures == ()
    assert "Pad" not in {node.op_type for node in case.made.model.graph.node}


def test_a_convolution_that_stays_float_keeps_its_cast(make, tmp_path):
    case = make("padded", keep_float=["one"])
    assert case.prove(tmp_path).failures == ()
    assert not case.made.recipe.pixels
    both = make("padded apart and not", keep_float=["other"])
    assert both.prove(tmp_path).failures == ()
    assert [node.op_type for node in both.made.model.graph.node].count("Cast") == 1
    assert all((scale == 1).all() for scale in both.made.recipe.pixels.values())  # others read the ones in float


def test_integers_with_a_sign_are_quantised_from_the_bytes_without_a_loss(make):
    case = make("padded", target="arm")
    assert case.derived() == []
    assert "Cast" in {node.op_type for node in case.made.model.graph.node}
    assert case.sqnr() >= make("padded", pixels=False, target="arm").sqnr() - MOST_LOST_DB


def changed(model: onnx.ModelProto, name: str, values: Any) -> onnx.ModelProto:
    other = onnx.ModelProto()
    other.CopyFrom(model)
    tensor = next(tensor for tensor in other.graph.initializer if tensor.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(values, numpy_helper.to_array(tensor).dtype), name))
    return other


def test_changes_of_the_bytes_are_caught_and_told(make):
    case = make("padded")
    model = case.made.model
    (pad,) = (node for node in model.graph.node if node.op_type == "Pad")
    assert case.derived() == []
    assert "pixels are others, the first in channel 3" in " ".join(case.derived(changed(model, pad.input[2], 254)))
    (value,) = case.made.recipe.pixels
    assert f"{value}: scale is 2, derived 1" in case.derived(changed(model, f"{value}/scale", 2.0))
    other = onnx.ModelProto()
    other.CopyFrom(model)
    (moved,) = (node for node in other.graph.node if node.op_type == "Transpose")
    moved.attribute[0].ints[:] = [0, 3, 2, 1]
    assert "pixels are others" in " ".join(case.derived(other))
    moved.attribute[0].ints[:] = [0, 3, 1, 2]
    (pad,) = (node for node in other.graph.node if node.op_type == "Pad")
    other.graph.node.insert(0, onnx.helper.make_node("Relu", ["x"], ["positive"], name="strange"))
    moved = next(node for node in other.graph.node if node.op_type == "Transpose")
    moved.input[0] = "positive"
    assert "it is made of positive in place of x" in " ".join(case.derived(other))


def test_a_simulation_that_sees_other_bytes_than_the_runtime_is_caught(make, tmp_path):
    from bnfold.quantisation.prove import compare_with_simulation
    from bnfold.quantisation.simulate import Simulation

    case = make("padded")
    onnx.save(case.made.model, tmp_path / "file.onnx")
    (pad,) = (node for node in case.made.model.graph.node if node.op_type == "Pad")
    wrong = Simulation(changed(case.made.model, pad.input[2], 250))
    found = compare_with_simulation(tmp_path / "file.onnx", wrong, case.held_out[:1], threads=1)
    assert any(failure.startswith(pad.name) for failure in found.failures)
