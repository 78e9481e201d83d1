"""scripts/bench_zoo.py: one table of all networks, whichever fails, in one go or in several."""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cuda_stand_in import pretend_cuda

from bnfold.errors import InputRefused
from bnfold.runtime import open_session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCRIPTS = Path(__file__).parents[2] / "scripts"
COLUMNS = (
    "network", "batch", "input", "CUDA graph", "plain ms", "folded ms", "plain end to end ms", "folded end to end ms",
    "ratio", "99 % interval", "verdict",
)  # fmt: skip


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script, imported with its neighbours."""
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import bench_zoo

    class Here(bench_zoo.Isolated):
        """In this process, where the stand-in is."""

        def __call__(self, work: Callable[..., Any], *values: Any) -> Any:
            return work(*values)

    monkeypatch.setattr(bench_zoo, "Isolated", Here)
    return bench_zoo


@pytest.fixture
def bench(script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[str]]:
    """Run it on CUDA with options; gives the lines of its table in Markdown, cell by cell."""

    def run(*options: str) -> list[list[str]]:
        page = tmp_path / "page.md"
        command = ["bench_zoo.py", "--provider", "cuda", "--budget", "0.1", "--json", str(tmp_path / "all.json")]
        monkeypatch.setattr(sys, "argv", [*command, "--markdown", str(page), *options])
        script.main(show=lambda _line: None)
        table = page.read_text(encoding="utf-8").partition("| environment |")[0]
        return [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]

    return run


def test_plain_and_folded_with_and_without_graphs(
    bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend_cuda(monkeypatch)
    heading, _, *lines = bench("--cuda-graph", "--batch", "1", "32", "--", "bnnet", "tabular")
    assert tuple(heading) == COLUMNS
    cells = [(graph, batch) for graph in ("no", "yes") for batch in ("1", "32")]
    assert [(line[3], line[1]) for line in lines] == 2 * cells
    assert [line[0] for line in lines] == 4 * ["bnnet"] + 4 * ["tabular"]
    assert {(line[0], line[2]) for line in lines} == {("bnnet", "512"), ("tabular", "3 and 6")}
    assert all((line[6] == "-") == (line[3] == "yes") for line in lines)
    assert all(float(line[8]) > 0 for line in lines)
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    for fact in ("onnxruntime |", "provider_options | {", "tf32 | True", "Nodes on the CPU: none."):
        assert fact in text


def test_a_file_that_makes_no_graph_keeps_its_line(bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    session = pretend_cuda(monkeypatch)
    monkeypatch.setattr(session, "makes_graphs", False)
    *_, line, last = bench("--cuda-graph", "bnnet")
    assert line[:4] == ["bnnet", "1", "512", "no"]
    assert last[:4] == ["bnnet", "all", "all", "none"]
    assert len(last) == len(line)
    assert last[-1].startswith("no CUDA graph: folded: This session cannot use the graph capture feature")


def test_a_process_that_dies_is_replaced(script: Any) -> None:
    isolated = script.Isolated.__base__()
    with pytest.raises(BrokenProcessPool):
        isolated(os._exit, 3)
    assert isolated(os.getpid) == isolated(os.getpid) != os.getpid()
    with pytest.raises(ValueError, match="invalid literal"):
        isolated(int, "x")
    with pytest.raises(InputRefused) as caught:
        isolated(open_session, Path("/no/such/file"))
    assert caught.value.where == "/no/such/file"
    isolated.close()


def test_a_network_whose_graph_kills_the_process_is_measured_without(script: Any) -> None:
    asked: list[bool] = []

    def run(_work: Any, _files: Any, options: dict[str, Any]) -> dict[str, Any]:
        asked.append(options["cuda_graph"])
        if options["cuda_graph"]:
            raise BrokenProcessPool
        return {"ratios": []}

    report = script.measure((), {"cuda_graph": True}, run)
    assert report == {"ratios": [], "no_cuda_graph": "the process died"}
    assert asked == [True, False]


def test_a_network_that_fails_loses_no_other_and_is_tried_again(
    script: Any, bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend_cuda(monkeypatch)
    real, asked = script.write_pair, []

    def fail(name: str, folder: Path) -> Any:
        asked.append(name)
        if name == "bnnet" and len(asked) == 1:
            raise RuntimeError("an illegal memory access")
        return real(name, folder)

    monkeypatch.setattr(script, "write_pair", fail)
    with pytest.raises(SystemExit, match="1 networks were not measured: bnnet"):
        bench("bnnet", "tabular")
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "Not measured: bnnet, RuntimeError: an illegal memory access." in page
    assert [line[0] for line in bench("bnnet", "tabular")[2:]] == ["tabular", "bnnet"]
    assert asked == ["bnnet", "tabular", "bnnet"]


def test_measurements_of_another_machine_are_not_taken_up(
    bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend_cuda(monkeypatch)
    bench("bnnet")
    reports = json.loads((tmp_path / "all.json").read_text(encoding="utf-8"))
    reports["bnnet"]["environment"]["gpu"] = "Another GPU"
    (tmp_path / "all.json").write_text(json.dumps(reports), encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        bench("bnnet", "tabular")
    assert ended.value.code == 3
    assert "all.json, bnnet; name another file with --json" in capsys.readouterr().err


def test_without_the_provider_nothing_is_exported(
    script: Any, bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(script, "write_pair", lambda *_args: pytest.fail("exported"))
    with pytest.raises(SystemExit) as ended:
        bench("bnnet")
    assert ended.value.code == 4
    assert capsys.readouterr().err.startswith("error: the provider CUDAExecutionProvider does not load")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch in this process as in those that export: statistics are summed in another order by several threads."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_exports_in_processes_are_the_same_files(script: Any, tmp_path: Path) -> None:
    for jobs in (1, 2):
        (tmp_path / str(jobs)).mkdir()
    found = {jobs: dict(script.pairs(["bnnet", "no such network"], tmp_path / str(jobs), jobs)) for jobs in (1, 2)}
    one, two = (found[jobs]["bnnet"]() for jobs in (1, 2))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    with pytest.raises(Exception, match=r"no such network|timm"):
        found[2]["no such network"]()
