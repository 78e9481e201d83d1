"""Measured costs and the plan that follows from them: a table gives back what it holds, the cut is the least of all."""

from __future__ import annotations

import itertools
import json
import math
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from int8_networks import with_parameters

from bnfold.quantisation import cheapest
from bnfold.quantisation.cheapest import float_by_cost, least_time
from bnfold.quantisation.costs import SCHEMA, CostTable, elements_of, table_of
from bnfold.quantisation.noise_by_layer import NoiseByLayer
from bnfold.quantisation.placement import integer_inputs, output_of, place
from bnfold.quantisation.prepare import prepared

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx_ir as ir

HEAD = '<ir_version: 10, opset_import: ["" : 20]> net '


def entry(layer: str, channels: int, positions: int, ns: tuple[int, int, int], kernel: int = 1) -> dict[str, Any]:
    """A line of a table: nanoseconds in float, in integers, and of a pair of borders."""
    line = {"layer": layer, "kernel": kernel, "channels": channels, "positions": positions}
    return line | dict(zip(("float_ns", "int8_ns", "border_ns"), ns, strict=True))


def table(entries: Iterable[dict[str, Any]], target: str = "x86-vnni") -> CostTable:
    """A table of these entries."""
    return CostTable(json.dumps({"schema": SCHEMA, "target": target, "environment": {}, "entries": list(entries)}))


def conv(channels: int, side: int | str, kernel: int = 1, group: int = 1) -> ir.Node:
    """A convolution of a prepared graph, as wide behind as in front."""
    shape = f"float[N, {channels}, {side}, {side}]"
    pads = ", ".join(4 * [str(kernel // 2)])
    text = f"{HEAD}({shape} x) => ({shape} y) {{ y = Conv <group = {group}, pads = [{pads}]> (x, w) }}"
    model = with_parameters(text, {"w": (channels, channels // group, kernel, kernel)})
    return next(iter(prepared(model, where="test").graph))


def test_the_table_of_the_package_gives_back_what_was_measured() -> None:
    found = table_of("x86-vnni")
    assert found.target == "x86-vnni"
    assert found.environment["threads"] == 1
    stored = json.loads((resources.files("bnfold.quantisation") / "costs" / "x86-vnni.json").read_text())["entries"]
    own = {(each["layer"], each["channels"], each["positions"], each["kernel"]): each for each in stored}
    dense, narrow = own["dense", 64, 56 * 56, 3], own["depthwise", 144, 28 * 28, 3]
    cost = found.of(conv(64, 56, 3))
    assert (cost.exact, cost.integer) == pytest.approx((dense["float_ns"], dense["int8_ns"]))
    assert not cost.is_far
    assert found.of(conv(144, 28, 3, group=144)).exact == pytest.approx(narrow["float_ns"])
    rows = (each for each in stored if each["channels"] * each["positions"] == 64 * 56 * 56)
    borders = [each["border_ns"] for each in rows if "border_ns" in each]
    assert min(borders) < 2 * found.border(64 * 56 * 56) < max(borders)


def test_between_two_shapes_a_cost_lies_between_theirs() -> None:
    found = table([entry("pointwise", 32, 64, (2**16, 2**15, 9)), entry("pointwise", 128, 64, (2**20, 2**17, 9))])
    middle = found.of(conv(64, 8))  # an octave from both: one and a half times and half as slow for each product
    assert middle.exact == pytest.approx(64**3 * math.sqrt(1 * 1))
    assert middle.integer == pytest.approx(64**3 * math.sqrt(1 / 2 * 1 / 8))
    assert not middle.is_far
    assert found.of(conv(2048, 8)).is_far


def test_what_is_not_measured_takes_the_nearest_kernel_and_lengths_of_an_image() -> None:
    found = table([entry("dense", 16, 784, (100, 50, 9), 3), entry("dense", 16, 784, (900, 800, 9), 7)])
    assert found.of(conv(16, 28, 5)).exact == pytest.approx(100 * 25 / 9)
    assert found.of(conv(16, "S", 3)).exact == pytest.approx(100)


def test_a_target_without_a_table_takes_the_measured_one() -> None:
    assert table_of("arm").target == "x86-vnni"


def test_a_table_of_another_schema_is_refused() -> None:
    with pytest.raises(ValueError, match="must have the schema"):
        CostTable('{"schema": "other/1"}')


BODY = """
(float[N, 4, 8, 8] x) => (float[N, 3] y) {
  [a] a = Conv (x, w_a)           [a_act] b = Relu (a)
  [c] c = Conv <group = 4, pads = [1, 1, 1, 1]> (b, w_c)   [c_act] d = Sigmoid (c)
  [e] e = Conv (d, w_e)           [f] f = Conv (b, w_f)
  [add] g = Add (e, f)            [g_act] h = Relu (g)
  [cat] i = Concat <axis = 1> (h, f)
  [j] j = Conv (i, w_j)           [pool] k = GlobalAveragePool (j)
  [flat] l = Flatten (k)          [fc] y = Gemm <transB = 1> (l, w_y)
}
"""
SHAPES = {
    "w_a": (4, 4, 1, 1), "w_c": (4, 1, 3, 3), "w_e": (4, 4, 1, 1), "w_f": (4, 4, 1, 1), "w_j": (8, 8, 1, 1),
    "w_y": (3, 8),
}  # fmt: skip


def seconds(
    graph: ir.Graph, costs: CostTable, possible: Iterable[str], integer: set[str], prices: NoiseByLayer
) -> float:
    """What a network takes with these nodes in integers, by the definition; infinite where that is no placement."""
    nodes = {str(node.name): node for node in graph}
    taken_in = {id(output_of(nodes[name]).producer()): name for name in possible}
    total = 0.0
    for node in graph:
        name = taken_in.get(id(node), str(node.name))
        cost = costs.of(node)
        total += cost.integer if name in integer else cost.exact
        total += prices.weights.get(str(node.name), 0.0) if node.name in integer else 0.0
        written = [output_of(node)] if name in possible and name == node.name else list(node.outputs)
        if name in possible and name != node.name:
            continue  # an activation that its layer takes in
        for value in written:
            readers = [(str(use.node.name), use.idx) for use in value.uses()]
            in_integers = [who in integer and (k == 0 or nodes[who].op_type in ("Add", "Concat")) for who, k in readers]
            from_integers = name in integer
            if from_integers and not all(in_integers) and node.op_type != "Gemm":
                total += costs.border(elements_of(value))
            if not from_integers and any(in_integers):
                total += costs.border(elements_of(value))
            if (from_integers and node.op_type != "Gemm") or any(in_integers):
                total += prices.values.get(str(value.name), 0.0)
        if name in integer and node.op_type in ("Add", "Concat", "GlobalAveragePool", "Flatten"):
            writers = [value.producer() for value in integer_inputs(node)]
            if any(w is None or taken_in.get(id(w), str(w.name)) not in integer for w in writers):
                return math.inf
    for value in graph.inputs:
        if any(str(use.node.name) in integer for use in value.uses()):
            total += costs.border(elements_of(value)) + prices.values.get(str(value.name), 0.0)
    return total


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_no_other_plan_is_faster_by_the_table(seed: int, *, noisy: bool) -> None:
    rng = np.random.default_rng(seed)
    border = int(10 ** rng.uniform(2, 4.5))
    costs = table(
        entry(layer, channels, positions, (*(int(n) for n in 10 ** rng.uniform(2, 4.5, 2)), border), kernel)
        for layer, channels, positions, kernel in (
            ("pointwise", 4, 64, 1), ("pointwise", 8, 64, 1), ("depthwise", 4, 64, 3), ("add", 4, 64, 1),
            ("gate", 5, 1, 1),
        )
    )  # fmt: skip
    graph = prepared(with_parameters(HEAD + BODY, SHAPES), where="test").graph
    possible = place(graph).nodes
    free = list(place(graph).nodes) + [name for name in ("add", "cat", "pool", "flat") if name not in possible]
    prices = NoiseByLayer({}, {})
    if noisy:
        prices = NoiseByLayer(
            *({name: int(10 ** rng.uniform(1, 4)) for name in names} for names in ("xbdfgh", "acefj"))
        )
    kept = set(least_time(graph, costs, possible, prices))
    layers = [name for name in possible if name not in ("pool", "flat")]
    best = math.inf
    for labels in itertools.product((False, True), repeat=len(free)):
        best = min(
            best, seconds(graph, costs, possible, {n for n, own in zip(free, labels, strict=True) if own}, prices)
        )
    own = math.inf
    for labels in itertools.product((False, True), repeat=2):  # the pools follow their neighbours
        pools = {name for name, label in zip(("pool", "flat"), labels, strict=True) if label and name in possible}
        own = min(own, seconds(graph, costs, possible, (set(layers) - kept) | pools, prices))
    assert own == pytest.approx(best, rel=1e-3)


BLOCK = """
(float[N, 144, 28, 28] x) => (float[N, M, K, L] y) {
  [wide] a = Conv (x, w_a)                                        s = ACT (a)
  [dw] b = Conv <group = 144, pads = [1, 1, 1, 1]> (s, w_b)       t = ACT (b)
  [c] c = Conv (t, w_a)                                           y = Sigmoid (c)
}
"""


@pytest.mark.parametrize(("act", "kept"), [("Sigmoid", ("dw",)), ("Relu", ())])
def test_a_depthwise_convolution_stays_float_beside_float_alone(act: str, kept: tuple[str, ...]) -> None:
    shapes = {"w_a": (144, 144, 1, 1), "w_b": (144, 1, 3, 3)}
    model = with_parameters(HEAD + BLOCK.replace("ACT", act), shapes)
    assert float_by_cost(prepared(model, where="test").graph, "x86-vnni") == kept


def test_what_is_kept_in_float_anyway_counts_as_float(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = table([entry("pointwise", 144, 784, (100, 90, 30)), entry("depthwise", 144, 784, (100, 110, 30), 3)])
    monkeypatch.setattr(cheapest, "table_of", lambda _: costs)
    shapes = {"w_a": (144, 144, 1, 1), "w_b": (144, 1, 3, 3)}
    graph = prepared(with_parameters(HEAD + BLOCK.replace("ACT", "Relu"), shapes), where="test").graph
    assert least_time(graph, costs, place(graph).nodes) == ("wide", "dw", "c")  # 290 and two borders of 15 against 300
    assert float_by_cost(graph, "x86-vnni") == ()
    cheap = table([entry("pointwise", 144, 784, (100, 60, 30)), entry("depthwise", 144, 784, (100, 110, 30), 3)])
    monkeypatch.setattr(cheapest, "table_of", lambda _: cheap)
    assert float_by_cost(graph, "x86-vnni") == ()
    assert float_by_cost(graph, "x86-vnni", ["wide"]) == ("dw",)
