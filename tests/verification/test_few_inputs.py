"""A file that is proven is compared on few inputs; what fails there, or is not proven, on all of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx.parser
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from bnfold.errors import InputRefused
from bnfold.export import finish, plain_graph
from bnfold.folding import fold_model
from bnfold.records import InputSpec, SourceFacts
from bnfold.sources.types import TorchSource
from bnfold.verification import OnnxReference, TorchReference, reference_for, verify_file
from bnfold.verification.data.feeds import Feed, make_feeds
from bnfold.verification.execution.known_rows import KnownRows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

X = InputSpec("x", (None, 2, 6, 5), "float32")
BORDER = -6  # the last of them: bright edges


def _rows(batches: Sequence[int], *, extent: Any = "few", samples: int = 0, spec: InputSpec = X) -> list[Any]:
    given = {"x": np.zeros((samples, 2, 6, 5), np.float32)} if samples else None
    feeds = make_feeds([spec], samples=given, facts={}, batches=batches, seed=0, extent=extent)
    return [feed.rows for feed in feeds]


@pytest.mark.parametrize(
    ("batches", "rows"),
    [
        ((1, 2, 3), [(0,), (BORDER, 1, 0), (1, 0)]),
        ((1, 2, 3, 5), [(0,), (BORDER, 1, 2, 3, 0), (2, 3, 0), (3, 0)]),
        ((2, 3), [(BORDER, 1, 0), (1, 0)]),
        ((1,), [(0,), (BORDER,)]),
        ((2,), [(BORDER, 0)]),
    ],
)
def test_every_batch_is_run_and_smaller_ones_hold_no_new_row(batches: Sequence[int], rows: list[Any]) -> None:
    assert _rows(batches) == rows
    assert _rows(batches, extent="one") == rows[:1]


def test_every_sample_is_compared() -> None:
    assert _rows((1, 2, 3), samples=8) == [(0,), (BORDER, 1, 0), (1, 0), (2, 3, 4), (5, 6, 7)]


def test_inputs_without_border_rows() -> None:
    assert _rows((1, 2, 3), spec=InputSpec("x", (None, 4), "int64")) == [(0,), (1, 2, 0), (2, 0)]


class _Counting:
    """A reference that counts what it is asked."""

    def __init__(self, reference: Any) -> None:
        self._reference = reference
        self.rows64: list[int] = []
        self.executions: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reference, name)

    def evaluate64(self, feed: Mapping[str, np.ndarray]) -> Any:
        self.rows64.append(len(next(iter(feed.values()))))
        return self._reference.evaluate64(feed)

    def execution32(self, feed: Mapping[str, np.ndarray]) -> Any:
        self.executions.append("one")
        return self._reference.execution32(feed)

    def executions32(self, feed: Mapping[str, np.ndarray]) -> Any:
        self.executions.append("all")
        return self._reference.executions32(feed)


def _network() -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 1))
    with torch.no_grad():
        network[1].running_mean.normal_()
        network[1].running_var.uniform_(0.5, 2)
    return network.eval()


def _judged(tmp_path: Path, module: nn.Module, change: Any = None, **options: Any) -> tuple[Any, _Counting]:
    """The verdict on the fold of a network, changed, and the reference with its counts."""
    source = TorchSource(SourceFacts("net", "", 0), module, (X,), ("y",))
    plain = plain_graph(source)
    unfolded = plain.clone()
    ledger = fold_model(plain)
    file = finish(plain)
    if change is not None:
        change(file)
    onnx.save(file, tmp_path / "file.onnx")
    counting = _Counting(reference_for(source, unfolded))
    verdict = verify_file(
        tmp_path / "file.onnx", counting, inputs=(X,), threads=1, certificate=ledger.certificate, **options
    )
    return verdict, counting


def test_a_proven_file_takes_four_rows_in_float64(tmp_path: Path) -> None:
    verdict, counting = _judged(tmp_path, _network())
    assert verdict, verdict.failure
    assert verdict.batches == (1, 2, 3)
    assert verdict.n_compared == 2 * (1 + 2 + 3) * 3 * 6 * 5  # graph optimizations off, and as deployed
    assert counting.rows64 == [1, 3]
    assert counting.executions == ["one", "one"]
    assert not verdict.quick


def test_quick_takes_one_and_says_so(tmp_path: Path) -> None:
    verdict, counting = _judged(tmp_path, _network(), extent="one")
    assert verdict, verdict.failure
    assert verdict.quick
    assert verdict.certificate is not None
    assert verdict.n_compared == 2 * 3 * 6 * 5
    assert counting.rows64 == [1, 1]  # and again, since a network may hold chance


def test_what_is_not_proven_is_compared_on_all_inputs(tmp_path: Path) -> None:
    def wrong(file: onnx.ModelProto) -> None:
        bias = next(tensor for tensor in file.graph.initializer if len(tensor.dims) == 1)
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) * np.float32(1.01), bias.name))

    verdict, counting = _judged(tmp_path, _network(), wrong, extent="one")
    assert not verdict
    assert not verdict.quick
    assert set(counting.executions) == {"all"}
    assert verdict.departure is not None


def _rounding_to_float16(file: onnx.ModelProto) -> None:
    """What no proof in float64 sees: a value of half the precision."""
    last = file.graph.node[-1]
    name = last.input[0]
    for k, (type_, inner) in enumerate(((TensorProto.FLOAT16, "half"), (TensorProto.FLOAT, "single"))):
        cast = helper.make_node("Cast", [name if not k else "half"], [inner], f"cast{k}", to=type_)
        file.graph.node.insert(len(file.graph.node) - 1, cast)
    last.input[0] = "single"


@pytest.mark.parametrize("extent", ["few", "one"])
def test_what_fails_on_few_inputs_fails_on_all(tmp_path: Path, extent: str) -> None:
    verdict, counting = _judged(tmp_path, _network(), _rounding_to_float16, extent=extent)
    assert verdict.certificate is not None  # in float64 nothing is wrong
    assert not verdict
    assert not verdict.quick
    assert counting.executions[-1] == "all"


class _Noisy(nn.Module):
    """Another answer each time, far below what float32 shows."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.n = _network(), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not torch.compiler.is_exporting():
            self.n += 1
        return self.inner(x) * (1 + self.n * 1e-7)


@pytest.mark.parametrize("extent", ["few", "one"])
def test_a_source_of_chance_is_refused(tmp_path: Path, extent: str) -> None:
    with pytest.raises(InputRefused, match="gives other values when it is run again"):
        _judged(tmp_path, _Noisy(), extent=extent)


class _Mixing(nn.Module):
    """Rows that depend on their batch, as in train mode."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.mean(0, keepdim=True)


def test_rows_that_depend_on_each_other_are_no_known_rows() -> None:
    reference = TorchReference(_Mixing(), ["x"], ["y"])
    known = KnownRows()
    alone, both = _rows_of([[1.0, 2.0]], (0,)), _rows_of([[3.0, 5.0], [1.0, 2.0]], (1, 0))
    assert known.learn(alone, [reference.evaluate64(alone.arrays)])
    assert not known.learn(both, [reference.evaluate64(both.arrays)])
    assert known.answers(both) is None


def test_a_batch_of_known_rows_is_what_the_source_says() -> None:
    """Along the axis that is the batch, whichever it is."""
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    net (float[n, 2] x) => (float[2, n] y, float[n] s) {
      y = Transpose <perm = [1, 0]> (x)
      s = ReduceSum <keepdims = 0> (x, axis)
    }
    """
    model = onnx.parser.parse_model(text)
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "axis"))
    reference = OnnxReference(model)
    known = KnownRows()
    for feed in (_rows_of([[1.0, 2.0]], (0,)), _rows_of([[7.0, 8.0], [3.0, 5.0], [1.0, 2.0]], (2, 1, 0))):
        assert known.answers(feed) is None
        assert known.learn(feed, [reference.evaluate64(feed.arrays)])
    asked = _rows_of([[3.0, 5.0], [1.0, 2.0]], (1, 0))
    (answer,) = known.answers(asked) or [{}]
    wanted = reference.evaluate64(asked.arrays)
    assert set(answer) == set(wanted) == {"y", "s"}
    for name, array in wanted.items():
        np.testing.assert_array_equal(answer[name], array)
    assert known.answers(_rows_of([[3.0, 5.0], [0.0, 0.0]], (1, 4))) is None


def _rows_of(values: list[list[float]], rows: tuple[int, ...]) -> Feed:
    return Feed("random", len(rows), {"x": np.array(values, np.float32)}, rows)
