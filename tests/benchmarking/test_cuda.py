"""`bench --provider cuda` on a stand-in for ONNX Runtime with a GPU: what is asked of it, and how it is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from cuda_stand_in import CUDA, pretend_cuda

from bnfold.benchmarking import cell as cell_module
from bnfold.benchmarking.axes import Axes
from bnfold.benchmarking.cold_start import ColdStart
from bnfold.benchmarking.measure import bench_files
from bnfold.benchmarking.timing import BoundFile, bind, output_sizes
from bnfold.errors import InputRefused
from bnfold.runtime import open_session
from bnfold.runtime.providers import cuda as cuda_provider
from bnfold.runtime.providers import known_providers, provider_spec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result
    from cuda_stand_in import CudaSession

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> type[CudaSession]:
    return pretend_cuda(monkeypatch)


def test_every_cell_with_and_without_graphs(double: Path, cuda: type[CudaSession]) -> None:
    report = bench_files(
        [double, double],
        Axes(provider="cuda", cuda_graph=True, threads=1, batch=(1, 4)),
        names=["folded", "plain"],
        cold_starts=False,
        budget_s=0.2,
    )
    cells = [(graph, batch) for graph in (False, True) for batch in (1, 4)]
    assert [(run.cuda_graph, run.batch) for run in report.runs if run.name == "plain"] == cells
    assert [(ratio.cuda_graph, ratio.batch) for ratio in report.ratios] == cells
    assert {run.provider for run in report.runs} == {CUDA}
    assert {(run.cuda_graph, run.end_to_end_ms is None) for run in report.runs} == {(False, False), (True, True)}
    assert {"gpu", "cuda_build", "cuda_driver", "cudnn", "tf32", "build_info"} <= set(report.environment)
    assert report.environment["tf32"] is True
    assert report.environment["provider_options"]["cudnn_conv_algo_search"] == "EXHAUSTIVE"
    assert all(options in ({}, {"enable_cuda_graph": "1"}) for options in cuda.opened)
    assert {options.get("enable_cuda_graph") for options in cuda.opened} == {None, "1"}


def test_cold_starts_are_not_those_of_a_graph(
    double: Path, cuda: type[CudaSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run of a graph captures it; a cold start makes none, and would say nothing about it."""
    asked: list[Any] = []

    def start(*_args: Any, provider_options: Any = None, **_options: Any) -> ColdStart:
        asked.append(provider_options)
        return ColdStart(5.0, 20.0 if provider_options is None else 8.0, 1.0)

    monkeypatch.setattr(cell_module, "measure_cold_start", start)
    report = bench_files([double], Axes(provider="cuda", cuda_graph=True, threads=1), budget_s=0.1)
    assert asked == [None, cuda_provider.NO_SEARCH]
    assert [(run.first_ms, run.cudnn_search_ms, run.n_starts) for run in report.runs] == [
        (20.0, 12.0, 1),
        (None, None, 0),
    ]


def test_a_file_that_makes_no_graph_is_refused_before_anything_is_measured(
    double: Path, cuda: type[CudaSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "makes_graphs", False)
    spec = replace(provider_spec("cuda"), fault=lambda _ort: pytest.fail("CUDA is all right"))
    monkeypatch.setitem(known_providers(), "cuda", spec)
    monkeypatch.setattr("bnfold.benchmarking.measure.measure_cell", lambda *_args, **_more: pytest.fail("measured"))
    with pytest.raises(InputRefused, match=r"makes no CUDA graph of it in .*double\.onnx.*--cuda-graph"):
        bench_files([double], Axes(provider="cuda", cuda_graph=True, threads=1), budget_s=0.1)


def test_values_of_every_type_are_bound_to_the_device(
    write: Callable[[str, str], Path], cuda: type[CudaSession]
) -> None:
    graph = "{ k = Cast <to = 1> (i)\n c = Where (b, x, k)\n y = Cast <to = 7> (c)\n z = Not (b) }"
    path = write("types.onnx", f"net (float[N] x, int64[N] i, bool[N] b) => (int64[N] y, bool[N] z) {graph}")
    inputs = {"x": np.float32([1.5, 2]), "i": np.int64([7, 8]), "b": np.array([True, False])}
    sizes = output_sizes(path, inputs, "cuda")
    assert sizes == {"y": ([2], np.dtype("int64")), "z": ([2], np.dtype("bool"))}
    session = open_session(path, provider="cuda", threads=1, fallback=True)
    binding = bind(session, inputs, "cuda", sizes)
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal([value.numpy() for value in binding.get_outputs()], [[1, 8], [False, True]])


def test_the_stand_in_refuses_what_cuda_refuses(double: Path, cuda: type[CudaSession]) -> None:
    sizes = output_sizes(double, {"x": X}, "cuda")
    file = BoundFile(double, {"x": X}, provider="cuda", threads=1, graph_outputs=sizes)
    assert file.end_to_end is None
    with pytest.raises(RuntimeError, match="binds none"):
        file.session.run(None, {"x": X})
    with pytest.raises(RuntimeError, match="no fixed address"):
        file.session.run_with_iobinding(bind(file.session, {"x": X}, "cuda"))
    with pytest.raises(RuntimeError, match="other addresses"):
        file.session.run_with_iobinding(bind(file.session, {"x": X}, "cuda", sizes))
    with pytest.raises(Exception, match="gpuu"):
        bind(file.session, {"x": X}, "gpuu")  # type: ignore[arg-type]  # what the test is about
    with pytest.raises(RuntimeError, match="Unknown provider option"):
        cuda(str(double), providers=[(CUDA, {"cudnn_search": "HEURISTIC"})], enable_fallback=0)


def test_a_file_is_proven_in_float32(network: Path, cuda: type[CudaSession], cli: Callable[..., Result]) -> None:
    """TF32 keeps 11 bits of 24: it would be the device's arithmetic that fails, whatever the file."""
    result = cli("verify", network, network, "--provider", "cuda", "--json", "-", "-q")
    assert result.exit_code == 0
    executions = json.loads(result.stdout)["executions"]
    assert [(one["tf32"], set(one["nodes"])) for one in executions] == 2 * [(False, {CUDA})]
    probe, *sessions = cuda.opened
    assert probe == {}
    assert sessions
    assert all(options == {"use_tf32": "0"} for options in sessions)
