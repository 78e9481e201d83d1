"""What only a GPU can show: CUDA runs the files, a graph that is replayed gives the right values, a file is proven."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort
import pytest

from bnfold.benchmarking.axes import Axes
from bnfold.benchmarking.measure import bench_files
from bnfold.benchmarking.timing import BoundFile, bind, output_sizes
from bnfold.runtime import open_session, provider_spec, run_probe
from bnfold.runtime.cuda_libraries import cuda_fault, gpu_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

pytestmark = pytest.mark.alone

CUDA = provider_spec("cuda").ort_name


@pytest.fixture(scope="module", autouse=True)
def gpu() -> None:
    """Skip without a GPU, or without an ONNX Runtime that could use one; fail where a GPU is there and not used."""
    if CUDA not in ort.get_available_providers():
        pytest.skip("this build of ONNX Runtime has no CUDA")
    fault = cuda_fault(ort)
    if fault is not None and (model := gpu_model()) is not None:
        pytest.fail(f"ONNX Runtime cannot use the GPU that is here, {model}: {fault.found}; {fault.remedy}")
    if fault is not None:
        pytest.skip(f"nvidia-smi shows no GPU: {fault.found}")


def test_the_probe_runs() -> None:
    assert run_probe("cuda") == CUDA


@pytest.mark.parametrize("batch", [1, 32])
def test_a_graph_replays_the_values_of_the_cpu(batch: int, write: Callable[[str, str], Path]) -> None:
    """Integers below 2^11 throughout: no arithmetic rounds them, TF32's neither."""
    weight = "<float[1, 1, 3, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9}>"
    body = "{ c = Conv <pads = [1, 1, 1, 1]> (x, w)\n y = Relu (c) }"
    path = write("net.onnx", f"net (float[N, 1, 4, 4] x) => (float[N, 1, 4, 4] y) {weight} {body}")
    x = np.random.default_rng(0).integers(-3, 4, (batch, 1, 4, 4)).astype(np.float32)
    sizes = output_sizes(path, {"x": x}, "cuda")
    (expected,) = open_session(path, threads=1).run(None, {"x": x})
    session = open_session(path, provider="cuda", provider_options={"enable_cuda_graph": "1"}, fallback=True)
    binding = bind(session, {"x": x}, "cuda", sizes)
    for _ in range(4):
        session.run_with_iobinding(binding)
        (answer,) = binding.copy_outputs_to_cpu()
        np.testing.assert_array_equal(answer, expected)
    assert BoundFile(path, {"x": x}, provider="cuda", threads=1, graph_outputs=sizes).timed_ms() > 0


def test_cells_with_and_without_graphs(network: Path) -> None:
    report = bench_files(
        [network, network],
        Axes(provider="cuda", cuda_graph=True, threads=1, batch=(1, 32)),
        cold_starts=False,
        budget_s=1.0,
    )
    assert {(run.provider, run.batch, run.cuda_graph) for run in report.runs} == {
        (CUDA, batch, graph) for batch in (1, 32) for graph in (False, True)
    }
    assert all(report.environment[fact] for fact in ("gpu", "cuda_driver", "cudnn"))


def test_a_cold_start_finds_the_libraries(network: Path) -> None:
    (run,) = bench_files([network], Axes(provider="cuda", threads=1), budget_s=0.1).runs
    assert run.load_ms
    assert run.cudnn_search_ms is not None


def test_a_file_is_proven(network: Path, cli: Callable[..., Result]) -> None:
    result = cli("verify", network, network, "--provider", "cuda", "-q")
    assert (result.exit_code, result.stderr) == (0, "")
