"""Plans of what stays float: each leaves something else float, the fastest is taken, its file makes the same bytes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from int8_networks import with_parameters

from bnfold.errors import InputRefused
from bnfold.quantisation.plans import candidate_plans, multiply_adds, plan_text, read_plan, regions
from bnfold.quantisation.prepare import prepared
from bnfold.records import BenchRatio, BenchReport

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from click.testing import Result


def test_plans_leave_other_layers_float(network: onnx.ModelProto) -> None:
    plans = candidate_plans(prepared(network, where="test").graph, "x86-vnni")
    assert plans == {
        "all": (),
        "without depthwise": ("deep",),
        "without grouped": ("deep", "last"),
        "1x1 only": ("stem", "deep", "last"),
        "dense spatial only": ("wide", "deep", "narrow", "last", "fc"),
    }


def test_multiply_adds_are_those_of_one_sample(network: onnx.ModelProto) -> None:
    found = multiply_adds(prepared(network, where="test").graph)
    assert found == {
        "stem": 8 * 49 * 27, "wide": 16 * 49 * 8, "deep": 16 * 49 * 9, "narrow": 8 * 49 * 16, "last": 6 * 25 * 36,
        "fc": 5 * 12,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "the plan cannot be read"),
        ('{"schema": "other/1", "float": []}', "the file is not a plan of bnfold quantize"),
        (plan_text(["elsewhere"], "x86"), "one of another network.*found elsewhere"),
    ],
)
def test_files_that_are_no_plan_are_refused(network: onnx.ModelProto, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(InputRefused, match=message):
        read_plan(tmp_path / "plan.json", prepared(network, where="test").graph)


def test_the_fastest_plan_is_taken_and_its_file_makes_the_same_bytes(
    cli: Callable[..., Result], network: onnx.ModelProto, samples: dict[str, np.ndarray], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def timed(files: list[Path], _axes: object, *, names: list[str], **_: Any) -> BenchReport:
        assert [path.is_file() for path in files] == [True] * len(names)
        speed = {name: 1.0 + 0.1 * (name == "without grouped") for name in names[1:]}
        ratios = tuple(BenchRatio("float", name, 1, r, r - 0.01, r + 0.01, "slower") for name, r in speed.items())
        return BenchReport(environment={}, runs=(), ratios=ratios)

    monkeypatch.setattr("bnfold.benchmarking.bench_files", timed)
    onnx.save(network, tmp_path / "net.onnx")
    np.savez(tmp_path / "x.npz", **samples)
    given = ["quantize", tmp_path / "net.onnx", "--inputs", tmp_path / "x.npz", "--budget", 0, "--threads", 1]
    measured = cli(*given, "-o", tmp_path / "a", "--measure")
    assert measured.exit_code == 0, measured.output
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert [plan["name"] for plan in report["plans"]][:3] == ["all", "without depthwise", "without grouped"]
    assert report["plans"][2]["ratio"] == pytest.approx(1 / 1.1)
    assert report["plans"][0]["int8_share"] == 1
    assert 0.5 < report["int8_share"] < 1
    assert {layer["name"]: layer["reason"] for layer in report["layers"] if layer["reason"]} == {
        "deep": "cost", "add": "float_neighbours", "last": "cost"
    }  # fmt: skip
    again = cli(*given, "-o", tmp_path / "b", "--plan", tmp_path / "a" / "plan.json")
    assert again.exit_code == 0, again.output
    assert (tmp_path / "a" / "model.int8.onnx").read_bytes() == (tmp_path / "b" / "model.int8.onnx").read_bytes()
    assert not (tmp_path / "b" / "plan.json").exists()
    both = cli(*given, "-o", tmp_path / "c", "--measure", "--plan", tmp_path / "a" / "plan.json")
    assert both.exit_code == 3


REGIONS = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[N, 3, 8, 8] x) => (float[N, 5] y) {
  [first] a = Conv (x, w1)
  [smooth] b = Sigmoid (a)
  [second] c = Conv (b, w2)
  [relu] d = Relu (c)
  [third] e = Conv (d, w3)
  [curve] f = Tanh (e)
  [pool] g = GlobalAveragePool (f)
  [flat] h = Flatten (g)
  [fc] y = Gemm <transB = 1> (h, w4)
}
"""


def test_regions_are_what_integers_connect() -> None:
    shapes = {"w1": (4, 3, 1, 1), "w2": (8, 4, 1, 1), "w3": (8, 8, 1, 1), "w4": (5, 8)}
    graph = prepared(with_parameters(REGIONS, shapes), where="test").graph
    assert regions(graph) == [frozenset({"second", "third"}), frozenset({"first"}), frozenset({"fc"})]
    plans = candidate_plans(graph, "x86-vnni")
    assert plans["single region from second"] == ("first", "fc")
    assert plans["single region from first"] == ("second", "third", "fc")
