"""The proof: right files pass all three checks, each change is caught, and the layer is named."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from int8_networks import with_parameters
from onnx import numpy_helper

from bnfold.quantisation.kernels import executed_nodes, kernel_counts, wrong_kernels
from bnfold.quantisation.prove import compare_with_simulation, prove
from bnfold.quantisation.simulate import Simulation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bnfold.quantisation.quantise import Quantised


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "file.onnx"
    onnx.save(model, path)
    return path


def test_every_operator_runs_as_one_integer_kernel(made: Quantised, tmp_path: Path) -> None:
    assert not made.recipe.reasons
    nodes = executed_nodes(saved(made.model, tmp_path), threads=1)
    counts = kernel_counts(nodes)
    assert {kind: counts[kind] for kind in ("QLinearConv", "QLinearAdd", "QLinearConcat", "QGemm")} == {
        "QLinearConv": 5, "QLinearAdd": 1, "QLinearConcat": 1, "QGemm": 1,
    }  # fmt: skip
    assert counts["QLinearAveragePool"] == counts["QLinearGlobalAveragePool"] == 1
    assert not {"Conv", "Gemm", "Add", "Relu", "Clip", "AveragePool"} & {node.kind for node in nodes}
    assert wrong_kernels(nodes, made.recipe) == ()


@pytest.mark.parametrize("weights", ["per-channel", "per-tensor"])
def test_a_right_file_passes(
    make: Callable[..., Quantised], feeds: list[dict[str, np.ndarray]], tmp_path: Path, weights: str
) -> None:
    made = make(weights=weights)
    proof = prove(saved(made.model, tmp_path), made.source, made.recipe, feeds, threads=1)
    assert proof.failures == ()
    assert proof
    assert proof.steps <= 1
    assert proof.facts.n_compared > 5_000
    n_weights = sum(np.prod(tensor.dims) for tensor in made.model.graph.initializer if tensor.name.endswith("/s8"))
    assert proof.facts.n_parameters > n_weights


def test_sums_of_products_agree_bit_for_bit(
    made: Quantised, feeds: list[dict[str, np.ndarray]], tmp_path: Path
) -> None:
    compared = compare_with_simulation(saved(made.model, tmp_path), Simulation(made.model), feeds, threads=1)
    own = Simulation(made.model)
    found = Counter(node for node in own.integer_nodes)
    assert found["stem"] == found["fc"] == 1
    assert compared.steps <= 1
    assert compared.n_off_by_one <= compared.n * 2**-15


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("a scale doubled", "derivation"),
        ("a zero point off by one", "derivation"),
        ("a bias not corrected", "derivation"),
        ("scales of two channels swapped", "derivation"),
        ("weights rounded down", "derivation"),
        ("a QuantizeLinear dropped", "derivation"),
        ("a QuantizeLinear dropped", "optimized graph"),
    ],
)
def test_a_change_of_the_file_is_caught_and_its_layer_named(
    made: Quantised, feeds: list[dict[str, np.ndarray]], mutants: Any, name: str, check: str
) -> None:
    layer = mutants.middle_layer(made)
    output = next(plan.output for plan in made.recipe.nodes if plan.name == layer)
    found = mutants.caught_by(mutants.MUTANTS[name](made, layer), made, feeds)
    assert any(text.startswith((layer, f"{output}:")) for text in found[check]), found


def test_a_float_layer_stays_float_and_one_that_is_quantised_again_is_caught(
    make: Callable[..., Quantised], feeds: list[dict[str, np.ndarray]], mutants: Any
) -> None:
    made = make(keep_float=["deep"])
    assert made.recipe.reasons == {"deep": "asked"}
    right = mutants.caught_by(made.model, made, feeds)
    assert not any(right.values()), right
    found = mutants.caught_by(mutants.quantised_again(made, "deep"), made, feeds)
    assert any("deep is float" in text for text in found["optimized graph"]), found


def test_a_runtime_that_computes_something_else_is_caught_and_its_operator_named(
    made: Quantised, feeds: list[dict[str, np.ndarray]], tmp_path: Path
) -> None:
    other = onnx.ModelProto()
    other.CopyFrom(made.model)
    tensor = next(tensor for tensor in other.graph.initializer if tensor.name == "narrow/weight/s8")
    values = numpy_helper.to_array(tensor).copy()
    values[3] = 0
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    compared = compare_with_simulation(saved(made.model, tmp_path), Simulation(other), feeds, threads=1)
    assert {failure.partition(":")[0] for failure in compared.failures} == {"narrow"}


def test_a_small_share_off_by_one_passes_and_a_larger_one_fails(made: Quantised) -> None:
    from bnfold.quantisation.prove import MOST_OFF_BY_ONE, Compared, _compare

    for share, fails in ((MOST_OFF_BY_ONE / 2, False), (2 * MOST_OFF_BY_ONE, True)):
        own = np.zeros(100_000, np.uint8)
        runtime = own.copy()
        runtime[: int(share * own.size)] = 1
        compared = Compared()
        _compare(compared, {"y": runtime}, "layer", "y", own)
        assert bool(compared.failures) is fails


POOLED = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[N, 3, 13, 13] x) => (float[N, 8, 1, 1] y) {
  [one] a = Conv <kernel_shape = [3, 3]> (x, w1, b1)          [act] b = PRelu (a, slope)
  [pool] c = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (b)
  [two] d = Conv <kernel_shape = [3, 3]> (c, w2, b2)          [mean] y = GlobalAveragePool (d)
}
"""


def test_a_float_pool_in_front_of_integers_runs_on_them(
    make: Callable[..., Quantised], feeds: list[dict[str, np.ndarray]], tmp_path: Path
) -> None:
    shapes = {"w1": (8, 3, 3, 3), "b1": (8,), "slope": (8, 1, 1), "w2": (8, 8, 3, 3), "b2": (8,)}
    made = make(with_parameters(POOLED, shapes))
    assert {plan.name for plan in made.recipe.nodes} == {"one", "two"}
    file = saved(made.model, tmp_path)
    assert any((node.kind, node.layer) == ("NhwcMaxPool", "pool") for node in executed_nodes(file, threads=1))
    proof = prove(file, made.source, made.recipe, feeds, threads=1)
    assert proof, proof.failures


HEAD = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[N, 3, 13, 13] x) => (float[N, 5] y) {
  [a] a = GlobalAveragePool (x)              [flat] b = Flatten (a)
  [one] c = Gemm <transB = 1> (b, w1, b1)    [act] d = ACT (c)
  [two] y = Gemm <transB = 1> (d, w2, b2)
}
"""


@pytest.mark.parametrize("act", ["Relu", "Sigmoid", "Tanh", "HardSwish"])
def test_a_gemm_in_front_of_an_activation_and_a_float_layer_is_an_integer_kernel(
    make: Callable[..., Quantised], feeds: list[dict[str, np.ndarray]], tmp_path: Path, act: str
) -> None:
    shapes = {"w1": (8, 3), "b1": (8,), "w2": (5, 8), "b2": (5,)}
    made = make(with_parameters(HEAD.replace("ACT", act), shapes), keep_float=["two"])
    assert "one" in {plan.name for plan in made.recipe.nodes}
    assert prove(saved(made.model, tmp_path), made.source, made.recipe, feeds, threads=1).failures == ()


def test_a_gemm_whose_activation_writes_the_output_stays_float(make: Callable[..., Quantised]) -> None:
    shapes = {"w1": (5, 3), "b1": (5,), "w2": (5, 5), "b2": (5,)}
    text = HEAD.replace("[act] d = ACT (c)", "").replace("Gemm <transB = 1> (d", "Gemm <transB = 1> (c")
    made = make(
        with_parameters(text.replace("[two] y", "[two] z").replace("\n}", "\n  [last] y = Relu (z)\n}"), shapes)
    )
    assert made.recipe.reasons == {"two": "graph_output"}
