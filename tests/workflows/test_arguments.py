"""What the command line refuses, the functions refuse, too, before any work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
import onnx.parser
import pytest

import bnfold
from bnfold.errors import EnvironmentNotReady, InputRefused
from bnfold.workflows.arguments import batch_sizes

if TYPE_CHECKING:
    from pathlib import Path

MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 3] x) => (float[N, 3] y) { y = Relu (x) }
"""
WRONG = [
    ({"batch": 0}, "the batch size is none: found 0, expected a whole number from 1 to 65536"),
    ({"batch": (2, -1)}, "the batch size is none: found -1"),
    ({"batch": True}, "the batch size is none: found True"),
    ({"batch": 1.5}, "the batch size is none"),
    ({"batch": 65537}, "the batch size is none: found 65537"),
    ({"threads": 1025}, "the number of threads is none: found 1025, expected a whole number from 1 to 1024"),
    ({"threads": 0}, "the number of threads is none: found 0"),
    ({"threads": -3}, "the number of threads is none"),
    ({"provider": "nosuch"}, "no such provider: found 'nosuch', expected cpu or cuda"),
]


@pytest.fixture
def relu(tmp_path: Path) -> Path:
    onnx.save(onnx.parser.parse_model(MODEL), tmp_path / "relu.onnx")
    return tmp_path / "relu.onnx"


@pytest.mark.parametrize(("options", "says"), WRONG)
def test_wrong_values_are_refused_everywhere(relu: Path, options: dict[str, Any], says: str) -> None:
    folder = relu.parent / "out"
    for call in (
        lambda: bnfold.fold_export(relu, folder, **options),
        lambda: bnfold.verify(relu, relu, **options),
        lambda: bnfold.bench(relu, **options),
    ):
        with pytest.raises(InputRefused, match=says):
            call()
    assert not folder.exists()


@pytest.mark.parametrize("budget_s", [0, -5, float("nan"), float("inf")])
def test_a_budget_is_a_time(relu: Path, budget_s: float) -> None:
    with pytest.raises(InputRefused, match="budget_s is no time"):
        bnfold.bench(relu, budget_s=budget_s)
    with pytest.raises(InputRefused, match="slo_p95_ms is no time"):
        bnfold.bench(relu, slo_p95_ms=budget_s)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"opt_level": "most"}, "no such optimization level: found 'most', expected disabled, basic, extended or all"),
        ({"opt_level": ["all", "most"]}, "no such optimization level: found 'most'"),
        ({"optimize": "later"}, "no such time of optimization: found 'later', expected online or offline"),
        ({"mode": "fast"}, "no such mode: found 'fast', expected latency, throughput or open-loop"),
        ({"against": ["plane"], "source": "net"}, "no such peer: found 'plane', expected plain, onnxsim"),
        ({"baseline": "earlier.json"}, "a baseline wants a limit it is held to"),
        ({"fail_if_slower": 0.03}, "nothing that the files shall not be slower than: found fail_if_slower=0.03"),
        ({"fail_if_slower_than": "plain"}, "no other file has the name .* found plain, expected a second file"),
    ],
)
def test_measuring_refuses_names_and_gates_that_are_none(relu: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputRefused, match=says):
        bnfold.bench(relu, **options)


def test_two_names_of_one_argument() -> None:
    assert batch_sizes(None) == ()
    assert batch_sizes(8) == batch_sizes(None, 8) == batch_sizes([8]) == batch_sizes(None, (8,)) == (8,)
    with pytest.raises(InputRefused, match="two names of one argument"):
        batch_sizes(1, (2,))


@pytest.mark.parametrize("options", [{"batch": 5}, {"batch": (5,)}, {"batches": (5,)}])
def test_batch_and_batches_are_the_same(relu: Path, options: dict[str, Any]) -> None:
    assert bnfold.verify(relu, relu, **options).batches == (1, 2, 3, 5)
    with pytest.raises(InputRefused, match="the batch size is none"):
        bnfold.verify(relu, relu, batches=(-1,))
    with pytest.raises(InputRefused, match="the batch size is none"):
        bnfold.fold_export(relu, relu.parent / "out", static_batch=0)


def test_fold_takes_a_network() -> None:
    with pytest.raises(InputRefused, match=r"no such file or folder in x\.onnx"):
        bnfold.fold("x.onnx")


def test_the_provider_is_tried_before_the_source_is_read(relu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading, exporting and folding came first, which takes minutes for a large network."""
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr("bnfold.sources.load_source", lambda *_, **__: pytest.fail("the source was read"))
    for call in (
        lambda: bnfold.fold_export(relu, relu.parent / "out", provider="cuda"),
        lambda: bnfold.verify(relu, relu, provider="cuda"),
    ):
        with pytest.raises(EnvironmentNotReady, match="CUDAExecutionProvider does not load"):
            call()
