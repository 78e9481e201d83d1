"""`bench_files`: one report for files measured side by side."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

import bnfold
from bnfold.benchmarking.axes import Axes
from bnfold.benchmarking.measure import bench_files
from bnfold.benchmarking.subjects import distinct_names
from bnfold.errors import EnvironmentNotReady, InputRefused
from bnfold.records import as_json
from bnfold.sources.digests import file_sha256

if TYPE_CHECKING:
    from collections.abc import Callable

BUDGET_S = 0.3


def test_a_report_follows_the_contract(double: Path) -> None:
    shares: list[float] = []
    report = bench_files(
        [double, double], Axes(threads=1, batch=(1, 4)), budget_s=BUDGET_S, seed=3, progress=shares.append
    )
    content = as_json(report)
    assert content["schema"] == "bnfold.bench/1"
    assert set(content["runs"][0]) == {
        "name", "path", "provider", "batch", "n", "load_ms", "first_ms", "median_ms", "p95_ms", "images_per_s",
        "peak_mb", "threads", "opt_level", "input_shapes", "p90_ms", "p99_ms", "intervals", "n_starts", "engine",
        "mode", "concurrency", "optimize", "cuda_graph", "end_to_end_ms", "cudnn_search_ms", "slo_p95_ms",
        "rate_per_s", "rates_per_s", "rate_confirmed", "sha256",
    }  # fmt: skip
    assert content["complete"] is True
    assert [(run.name, run.batch) for run in report.runs] == [(n, b) for b in (1, 4) for n in ("double", "double#2")]
    assert {run.provider for run in report.runs} == {"CPUExecutionProvider"}
    for run in report.runs:
        assert run.images_per_s == pytest.approx(run.batch * 1000 / run.median_ms)
        assert run.p95_ms is None or run.p95_ms >= run.median_ms
        assert run.intervals["median_ms"][0] <= run.median_ms <= run.intervals["median_ms"][1]
        assert (run.p95_ms is None) == ("p95_ms" not in run.intervals)
        assert (run.threads, run.opt_level, run.input_shapes) == (1, "all", {"x": (run.batch, 3)})
    assert [(ratio.a, ratio.b, ratio.batch) for ratio in report.ratios] == [
        ("double", "double#2", 1),
        ("double", "double#2", 4),
    ]
    assert all(ratio.low <= ratio.ratio <= ratio.high for ratio in report.ratios)
    assert content["environment"]["noise"] in {"quiet", "noisy"}
    assert content["environment"]["threads"] == 1
    assert content["environment"]["seed"] == 3
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


@pytest.mark.alone
def test_ratios_are_first_over_each_other(product: Callable[[int], Path], quiet: None) -> None:
    """Ninety thousand times the work is slower on any quiet machine."""
    small, large = product(4), product(1200)
    report = bnfold.bench(small, large, small, names=["new", "old", "peer"], threads=1, batch=2, budget_s=BUDGET_S)
    ratios = {(ratio.a, ratio.b): ratio for ratio in report.ratios}
    assert list(ratios) == [("new", "old"), ("new", "peer")]
    assert ratios["new", "old"].verdict == "faster"
    times = {run.name: run.median_ms for run in report.runs}
    assert times["old"] > times["new"]


def test_a_run_has_the_digest_of_its_file_and_of_what_lies_beside_it(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((300, 300), np.float32), "w")
    made = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["": 17]> net (float[N, 300] x) => (float[N, 300] y) { y = MatMul (x, w) }'
    )
    made.graph.initializer.append(weight)
    file, data = tmp_path / "net.onnx", tmp_path / "weights.bin"
    onnx.save(made, file, save_as_external_data=True, location=data.name)
    (run,) = bench_files([file], Axes(threads=1), budget_s=0.1, cold_starts=False).runs
    assert run.sha256 == hashlib.sha256(file.read_bytes() + data.read_bytes()).hexdigest()
    before = file_sha256(file)
    data.write_bytes(bytes(len(data.read_bytes())))
    assert file_sha256(file) != before


def test_one_file_has_no_ratio(double: Path) -> None:
    report = bench_files([double], Axes(threads=1), budget_s=BUDGET_S)
    assert len(report.runs) == 1
    assert report.ratios == ()


def test_free_axes_want_a_shape(write: Callable[[str, str], Path]) -> None:
    path = write("free.onnx", "net (float[N, C, L] x) => (float[N, C, L] y) { y = Relu (x) }")
    with pytest.raises(InputRefused, match="--input-shape"):
        bench_files([path], Axes(threads=1), budget_s=BUDGET_S)
    report = bench_files([path], Axes(threads=1, input_shapes=[(1, 2, 5)]), budget_s=BUDGET_S)
    assert report.runs[0].n > 0


def test_files_that_cannot_be_compared(write: Callable[[str, str], Path], double: Path) -> None:
    other_name = write("name.onnx", "net (float[N, 3] z) => (float[N, 3] y) { y = Relu (z) }")
    other_size = write("size.onnx", "net (float[N, 5] x) => (float[N, 5] y) { y = Relu (x) }")
    with pytest.raises(InputRefused, match=r"different inputs in .*name\.onnx"):
        bench_files([double, other_name], Axes(threads=1))
    with pytest.raises(InputRefused, match=r"different shapes in .*size\.onnx"):
        bench_files([double, other_size], Axes(threads=1))


def test_every_batch_is_checked_before_the_first_is_measured(
    write: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("fixed.onnx", "net (float[2, 3] x) => (float[2, 3] y) { y = Relu (x) }")
    monkeypatch.setattr("bnfold.benchmarking.measure.measure_cell", lambda *_args, **_kwargs: pytest.fail("measured"))
    with pytest.raises(InputRefused, match="use --batch 2"):
        bench_files([path], Axes(threads=1, batch=(2, 8)))


def test_a_provider_that_is_missing(double: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(EnvironmentNotReady):
        bench_files([double], Axes(provider="cuda"))


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["a/model.onnx", "a/plain.onnx"], ["model", "plain"]),
        (["a/model.onnx", "b/model.onnx", "b/plain.onnx"], ["a/model", "b/model", "plain"]),
        (["a/model.onnx", "a/model.onnx"], ["model", "model#2"]),
        (["x/a/model.onnx", "y/a/model.onnx"], ["a/model", "a/model#2"]),
        (["a.onnx", "a.onnx", "a#2.onnx"], ["a", "a#2", "a#2#2"]),
        (["a\x1b[31m\n\x01.onnx", "\u202ea\udcff.onnx"], ["a\ufffd[31m\ufffd\ufffd", "\ufffda\ufffd"]),
        (["שלום 模型 é.onnx"], ["שלום 模型 é"]),
    ],
)
def test_names(files: list[str], names: list[str]) -> None:
    assert distinct_names([Path(file) for file in files]) == names


def test_names_and_files_must_fit(double: Path) -> None:
    with pytest.raises(ValueError, match="1 files and 2 names"):
        bench_files([double], names=["a", "b"])
