"""Where nodes run is told, and --strict-provider fails where one that computes fell back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bnfold.benchmarking import cell as cell_module
from bnfold.benchmarking import subjects as subjects_module
from bnfold.benchmarking.axes import Axes, Cell
from bnfold.benchmarking.cell import CellResult, measure_cell
from bnfold.benchmarking.cold_start import ColdStart
from bnfold.benchmarking.measure import bench_files
from bnfold.benchmarking.placements import placement_of, require_provider
from bnfold.benchmarking.subjects import file_subject
from bnfold.benchmarking.timing import bind, output_sizes
from bnfold.errors import EnvironmentNotReady, GateFailed
from bnfold.records import BenchPlacement, InputSpec
from bnfold.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
GRAPH = "{ s = Shape (x)\n r = Reshape (x, s)\n y = Relu (r) }"


def session_that_says(*nodes: tuple[str, str, str]) -> Any:
    """Stands for a session whose nodes were given to providers."""
    parts = [
        SimpleNamespace(ep_name=where, get_nodes=lambda n=name, k=kind: [SimpleNamespace(name=n, op_type=k)])
        for name, kind, where in nodes
    ]
    return SimpleNamespace(get_provider_graph_assignment_info=lambda: parts)


@pytest.fixture
def shaped(write: Callable[[str, str], Path]) -> Path:
    """A file with arithmetic on shapes; its nodes are named after their outputs."""
    import onnx

    path = write("shaped.onnx", f"net (float[N, 3] x) => (float[N, 3] y) {GRAPH}")
    model = onnx.load(path)
    for node in model.graph.node:
        node.name = f"node_{node.output[0]}"
    onnx.save(model, path)
    return path


def test_arithmetic_on_shapes_may_run_on_the_cpu(shaped: Path) -> None:
    session = session_that_says(("node_s", "Shape", CPU), ("node_r", "Reshape", CUDA), ("node_y", "Relu", CUDA))
    placement = placement_of("net", shaped, session, "cuda")
    assert placement.nodes == {CPU: 1, CUDA: 2}
    assert [(node.name, node.computes) for node in placement.elsewhere] == [("node_s", False)]
    require_provider([placement])


@pytest.mark.parametrize("name", ["node_y", "fused by somebody", ""])
def test_a_node_that_computes_elsewhere_fails(name: str, shaped: Path) -> None:
    placement = placement_of("net", shaped, session_that_says((name, "Relu", CPU)), "cuda")
    with pytest.raises(GateFailed, match=rf"\(Relu\) on {CPU}, expected {CUDA}") as caught:
        require_provider([placement])
    assert caught.value.exit_code == 1


def test_a_runtime_that_does_not_tell() -> None:
    with pytest.raises(EnvironmentNotReady, match=r"1\.24"):
        require_provider([BenchPlacement("net", CUDA, None)])


def test_a_real_session_tells(double: Path, cli: Callable[..., Result]) -> None:
    report = bench_files([double], Axes(threads=1), budget_s=0.1)
    assert report.placements == (BenchPlacement("double", CPU, {CPU: 1}),)
    assert cli("bench", double, "--budget", "0.1", "--strict-provider", "-q").exit_code == 0


def test_strict_provider_is_exit_code_1_with_the_report(
    double: Path, cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the only node had run elsewhere than asked for."""
    monkeypatch.setattr("bnfold.runtime.placement.node_providers", lambda _session: [("", "Mul", "Other")])
    monkeypatch.setattr("bnfold.benchmarking.placements.node_providers", lambda _session: [("", "Mul", "Other")])
    assert cli("bench", double, "--budget", "0.1", "-q").exit_code == 0
    result = cli("bench", double, "--budget", "0.1", "--strict-provider", "-q")
    assert result.exit_code == 1
    assert "Nodes that compute fell back" in result.stdout
    assert result.stderr.startswith("error: compute nodes fell back to another provider in double: found unnamed (Mul)")


def test_outputs_that_keep_their_addresses(double: Path) -> None:
    """What a CUDA graph needs; the binding itself works on any device."""
    x = np.ones((2, 3), np.float32)
    sizes = output_sizes(double, {"x": x}, "cpu")
    assert sizes == {"y": ([2, 3], np.dtype("float32"))}
    session = open_session(double, threads=1)
    binding = bind(session, {"x": x}, "cpu", sizes)
    pointers = set()
    for _ in range(3):
        session.run_with_iobinding(binding)
        (answer,) = binding.get_outputs()
        pointers.add(answer.data_ptr())
        np.testing.assert_array_equal(answer.numpy(), 2 * x)
    assert len(pointers) == 1


def test_the_search_of_cudnn_is_reported(double: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_args: Any, provider_options: Any = None, **_options: Any) -> ColdStart:
        return ColdStart(5.0, 20.0 if provider_options is None else 8.0, 1.0)

    monkeypatch.setattr(cell_module, "measure_cold_start", start)
    monkeypatch.setattr(cell_module, "time_files", lambda *_args: [])
    result = CellResult(Cell("cuda", 1, "all", None, 1), {"x": (1, 3)}, ["double"])
    specs = (InputSpec("x", (None, 3), "float32"),)
    measure_cell(result, [file_subject("double", double)], specs, budget_s=0.1, seed=0, progress=lambda _share: None)
    assert (result.cold["double"].first_ms, result.search_ms) == (20.0, {"double": 12.0})


def test_cuda_graphs_double_the_cells_on_cuda_alone() -> None:

    cells = Axes(provider=("cpu", "cuda"), threads=1, cuda_graph=True).cells()
    assert [(cell.provider, cell.cuda_graph) for cell in cells] == [("cpu", False), ("cuda", False), ("cuda", True)]
    assert str(cells[2]) == "cuda with CUDA graph, 1 thread, all, batch 1"


def test_placements_are_read_with_fallback_allowed(double: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def record(path: Path, **options: Any) -> Any:
        seen.append(options)
        return open_session(path, threads=1, configure=options["configure"])

    monkeypatch.setattr(subjects_module, "open_session", record)
    bench_files([double], Axes(threads=1), budget_s=0.1)
    assert seen[0]["fallback"] is True
