"""float16: values come into range by powers of two, the rest stays in float32; judged as a GPU runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from int8_networks import SHAPES, SPECS, TEXT, with_parameters

from bnfold.errors import InputRefused
from bnfold.quantisation.gauge import free_classes, in_units
from bnfold.quantisation.half.convert import Half, to_half
from bnfold.quantisation.half.prove import prove_half
from bnfold.quantisation.half.simulate import half_values, simulated
from bnfold.quantisation.measure_error import output_errors
from bnfold.quantisation.prepare import prepared
from bnfold.quantisation.samples import batches, split_samples
from bnfold.records import InputSpec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

PLAIN = TEXT.replace("[wide_act] d = Clip (c, low, high)", "[wide_act] d = Relu (c)").replace(
    "[deep_act] f = Clip (e, low, high)", "[deep_act] f = Relu (e)"
)


@pytest.fixture(scope="module")
def tame() -> onnx.ModelProto:
    """The network with ReLUs, whose channels are free."""
    return with_parameters(PLAIN, SHAPES)


def grown(network: onnx.ModelProto) -> onnx.ModelProto:
    """The same function, every free class of channels stored 2^U(6, 14) times as large, in float32."""
    model = prepared(network, where="test")
    n = free_classes(model)
    in_units(model, 2.0 ** np.random.default_rng(0).uniform(6, 14, n))
    proto = ir.to_proto(model)
    del proto.graph.value_info[:]
    return proto


def halved(network: onnx.ModelProto, samples: dict[str, np.ndarray], **options: Any) -> Half:
    return to_half(network, split_samples(samples, seed=0, where="test"), SPECS, threads=1, **options)


def answers(model: onnx.ModelProto, x: np.ndarray, *, optimized: bool = False) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return np.asarray(ort.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})[0])


def sqnr(network: onnx.ModelProto, made: Half, samples: dict[str, np.ndarray]) -> float:
    file = simulated(made.model).SerializeToString()
    (error,) = output_errors(file, network.SerializeToString(), samples, SPECS, optimized=False, threads=1)
    return error.sqnr_db


def test_tame_units_stay(tame: onnx.ModelProto, samples: dict[str, np.ndarray]) -> None:
    made = halved(tame, samples)
    assert not made.gauge.taken
    assert made.recipe.reasons == {}
    assert sqnr(tame, made, samples) > 55
    assert {value.type.tensor_type.elem_type for value in (*made.model.graph.input, *made.model.graph.output)} == {1}


def test_large_channels_come_into_range(tame: onnx.ModelProto, samples: dict[str, np.ndarray]) -> None:
    large = grown(tame)
    with pytest.raises(InputRefused, match="no parameter can be stored in float16"):
        halved(large, samples, choose_units=False)
    own = halved(large, samples)
    assert own.gauge.taken
    assert own.recipe.reasons == {}
    assert sqnr(large, own, samples) > 55


def test_powers_of_two_change_no_bit_in_float32(tame: onnx.ModelProto, samples: dict[str, np.ndarray]) -> None:
    large = grown(tame)
    made = halved(large, samples)
    np.testing.assert_array_equal(answers(made.source, samples["x"]), answers(made.reference, samples["x"]))
    for scale in made.recipe.gauge.values():
        np.testing.assert_array_equal(np.exp2(np.rint(np.log2(scale))), scale)


def test_the_simulation_overflows_where_the_processor_of_this_machine_hides_it(
    tame: onnx.ModelProto, samples: dict[str, np.ndarray], tmp_path: Path
) -> None:
    made = halved(tame, samples)
    model = onnx.ModelProto()
    model.CopyFrom(made.model)
    for name, factor in (("wide_weight/f16", 2.0**14), ("deep_weight/f16", 2.0**-14)):
        tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
        array = onnx.numpy_helper.to_array(tensor).astype(np.float64) * factor
        tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float16), name))
    assert np.isfinite(answers(model, samples["x"], optimized=True)).all()
    assert not np.isfinite(answers(simulated(model), samples["x"])).all()
    assert not np.isfinite(answers(simulated(model), samples["x"], optimized=True)).all()
    path = tmp_path / "file.onnx"
    onnx.save(model, path)
    found = prove_half(path, made.source, made.recipe, batches(samples, SPECS, 8), threads=1).failures
    assert any(failure.startswith("wide: ") and "not finite" in failure for failure in found)


def test_the_simulation_stores_in_float16(tame: onnx.ModelProto, samples: dict[str, np.ndarray]) -> None:
    made = halved(tame, samples)
    names = [name for name in half_values(made.model) if name in {"b", "i", "j"}]
    model = simulated(made.model)
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in names)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options)
    assert len(names) == 3
    for value in session.run(names, {"x": samples["x"][:4]}):
        np.testing.assert_array_equal(value, value.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("large", [False, True])
def test_a_file_is_proven(large: bool, tame: onnx.ModelProto, samples: dict[str, np.ndarray], tmp_path: Path) -> None:
    made = halved(grown(tame) if large else tame, samples, keep_float=["last"])
    assert dict(made.recipe.reasons) == {"last": "asked"}
    path = tmp_path / "file.onnx"
    onnx.save(made.model, path)
    proof = prove_half(path, made.source, made.recipe, batches(samples, SPECS, 8), threads=1)
    assert proof.failures == ()
    assert proof.facts.n_compared > 10_000
    assert proof.facts.n_parameters >= sum(int(np.prod(shape)) for shape in SHAPES.values())
    model = onnx.load(path)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "narrow_weight/f16")
    array = onnx.numpy_helper.to_array(tensor).copy()
    array[0, 3] *= np.float16(1.01)
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    onnx.save(model, path)
    found = prove_half(path, made.source, made.recipe, batches(samples, SPECS, 8), threads=1).failures
    assert found == ("narrow: 1 of 128 numbers of its input 1 are wrong",)


ISLANDS = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[N, 4] x) => (float[N, 4] y) <float tiny = {0.00000001}, float thousand = {3000.0}> {
  [scaled] a = Mul (x, thousand)
  [square] b = Mul (a, a)
  [sum] c = ReduceMean <keepdims = 1> (b)
  [safe] d = Add (c, tiny)
  [root] e = Sqrt (d)
  [divided] f = Div (a, e)
  [fc] y = Gemm (f, w)
}
"""


def test_what_leaves_the_range_stays_in_float32() -> None:
    network = with_parameters(ISLANDS, {"w": (4, 4)})
    x = {"x": np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)}
    specs = (InputSpec("x", (None, 4), "float32"),)
    made = to_half(network, split_samples(x, seed=0, where="test"), specs, threads=1)
    assert dict(made.recipe.reasons) == dict.fromkeys(("square", "sum", "safe", "root"), "range")
    exact, own = answers(network, x["x"]), answers(simulated(made.model), x["x"])
    assert np.abs(own - exact).max() < 0.01 * np.abs(exact).max()


def test_the_command_writes_fp16_and_says_what_stayed(
    cli: Callable[..., Result], tame: onnx.ModelProto, samples: dict[str, np.ndarray], tmp_path: Path
) -> None:
    import json

    onnx.save(grown(tame), tmp_path / "net.onnx")
    np.savez(tmp_path / "x.npz", **samples)  # type: ignore[arg-type]
    result = cli(
        "quantize", tmp_path / "net.onnx", "-o", tmp_path / "out", "--inputs", tmp_path / "x.npz",
        "--precision", "fp16",
        "--keep-float", "last", "--min-sqnr", "50",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["precision"], report["target"], report["timing"]) == ("fp16", "cuda", None)
    assert report["gauge"]["taken"]
    assert {layer["name"]: layer["reason"] for layer in report["layers"] if layer["reason"]} == {"last": "asked"}
    assert all(layer["sqnr_db"] > 45 for layer in report["layers"])
    types = {tensor.data_type for tensor in onnx.load(tmp_path / "out" / "model.fp16.onnx").graph.initializer}
    assert onnx.TensorProto.FLOAT16 in types
    again = cli(
        "quantize", tmp_path / "net.onnx", "-o", tmp_path / "again", "--inputs", tmp_path / "x.npz", "--precision",
        "fp16", "--keep-float", "last",
    )  # fmt: skip
    assert again.exit_code == 0, again.stderr
    files = [(tmp_path / folder / "model.fp16.onnx").read_bytes() for folder in ("out", "again")]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (("--precision", "fp16", "--target", "arm"), "quantize to int8"),
        (("--target", "cuda"), "give --precision fp16 for CUDA"),
        (("--precision", "fp16", "--measure"), "leave --plan, --measure"),
    ],
)
def test_precisions_have_their_targets(
    options: tuple[str, ...], remedy: str, cli: Callable[..., Result], tame: onnx.ModelProto, tmp_path: Path
) -> None:
    onnx.save(tame, tmp_path / "net.onnx")
    result = cli("quantize", tmp_path / "net.onnx", "-o", tmp_path / "out", "--inputs", tmp_path / "x.npz", *options)
    assert result.exit_code == 3
    assert remedy in result.stderr
