"""What the command line refuses, the functions refuse, too, before any work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
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
    ({"batch": 0}, "the batch size must be a whole number from 1 to 65536, got 0"),
    ({"batch": (2, -1)}, "the batch size must be a whole number from 1 to 65536, got -1"),
    ({"batch": True}, "the batch size must be a whole number from 1 to 65536, got True"),
    ({"batch": 1.5}, "the batch size must be a whole number"),
    ({"batch": 65537}, "the batch size must be a whole number from 1 to 65536, got 65537"),
    ({"threads": 1025}, "the number of threads must be a whole number from 1 to 1024, got 1025"),
    ({"threads": 0}, "the number of threads must be a whole number from 1 to 1024, got 0"),
    ({"threads": -3}, "the number of threads must be a whole number"),
    ({"provider": "nosuch"}, "the provider must be cpu, cuda,"),
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


@pytest.mark.parametrize("shapes", [(1, 3), [1, 3], "1x3"])
def test_shapes_are_one_for_each_input(relu: Path, shapes: Any) -> None:
    for call in (
        lambda: bnfold.fold_export(relu, input_shapes=shapes),
        lambda: bnfold.inspect(relu, input_shapes=shapes),
        lambda: bnfold.verify(relu, relu, input_shapes=shapes),
        lambda: bnfold.quantize(relu, relu.parent / "out", inputs=np.zeros((4, 3)), input_shapes=shapes),
        lambda: bnfold.bench(relu, input_shapes=shapes),
        lambda: bnfold.tune(relu, input_shapes=shapes),
    ):
        with pytest.raises(InputRefused, match=r"a shape for each input: .* give \[\(1, 3, 224, 224\)\]"):
            call()


@pytest.mark.parametrize("budget_s", [0, -5, float("nan"), float("inf")])
def test_a_budget_is_a_time(relu: Path, budget_s: float) -> None:
    with pytest.raises(InputRefused, match="budget_s must be a number above 0"):
        bnfold.bench(relu, budget_s=budget_s)
    with pytest.raises(InputRefused, match="slo_p95_ms must be a number above 0"):
        bnfold.bench(relu, slo_p95_ms=budget_s)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"opt_level": "most"}, "the optimization level must be disabled, basic, extended or all, got 'most'"),
        ({"opt_level": ["all", "most"]}, "the optimization level must be .*, got 'most'"),
        ({"optimize": "later"}, "the time of optimization must be online or offline, got 'later'"),
        ({"mode": "fast"}, "the mode must be latency, throughput or open-loop, got 'fast'"),
        ({"against": ["plane"], "source": "net"}, "the peer must be plain, onnxsim.*, got 'plane'"),
        ({"baseline": "earlier.json"}, "a baseline needs a limit that it is held to"),
        ({"fail_if_slower": 0.03}, "something to compare with: found fail_if_slower=0.03"),
        ({"fail_if_slower_than": "plain"}, "must name another file .* found plain, expected a second file"),
    ],
)
def test_measuring_refuses_names_and_gates_that_are_none(relu: Path, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputRefused, match=says):
        bnfold.bench(relu, **options)


def test_two_names_of_one_argument() -> None:
    assert batch_sizes(None) == ()
    assert batch_sizes(8) == batch_sizes(None, 8) == batch_sizes([8]) == batch_sizes(None, (8,)) == (8,)
    with pytest.raises(InputRefused, match="the same argument"):
        batch_sizes(1, (2,))


@pytest.mark.parametrize("options", [{"batch": 5}, {"batch": (5,)}, {"batches": (5,)}])
def test_batch_and_batches_are_the_same(relu: Path, options: dict[str, Any]) -> None:
    assert bnfold.verify(relu, relu, **options).batches == (1, 2, 3, 5)
    with pytest.raises(InputRefused, match="the batch size must be a whole number"):
        bnfold.verify(relu, relu, batches=(-1,))
    with pytest.raises(InputRefused, match="the batch size must be a whole number"):
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
