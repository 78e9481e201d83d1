"""docs/tutorial.ipynb runs from the first cell to the last in a kernel of its own, in under two minutes.

Its measurement has a smaller budget here: that there is a ratio is asserted, and not which.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "tutorial.ipynb"
LIMIT_S = 120
EXECUTE = """
import sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.read(sys.argv[1], as_version=4)
(measurement,) = (cell for cell in notebook.cells if "budget_s=10" in cell.source)
measurement.source = measurement.source.replace("budget_s=10", "budget_s=2")
NotebookClient(notebook, timeout=float(sys.argv[3]), kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory, warm_python: list[str]) -> list[dict[str, Any]]:
    """Of all cells, in their order, executed in a folder of its own; the notebook is not changed."""
    folder = tmp_path_factory.mktemp("notebook")
    executed = folder / "executed.ipynb"
    kernel = folder / "jupyter" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    command = [*warm_python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": command, "display_name": "Python 3", "language": "python"}))
    env = {
        **os.environ,
        "PYTHONPATH": str(NOTEBOOK.parents[1]),
        "JUPYTER_PATH": str(folder / "jupyter"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "IPYTHONDIR": str(folder / "ipython"),
    }
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", EXECUTE, str(NOTEBOOK), str(executed), str(LIMIT_S)],
        cwd=folder, env=env, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert time.perf_counter() - start < LIMIT_S
    cells = json.loads(executed.read_text())["cells"]
    assert {path.name for path in folder.iterdir()} >= {"exported", "plain.onnx"}
    return [output for cell in cells for output in cell.get("outputs", [])]


def shown(outputs: list[dict[str, Any]], kind: str) -> list[str]:
    return ["".join(output["data"][kind]) for output in outputs if kind in output.get("data", {})]


def printed(outputs: list[dict[str, Any]]) -> str:
    return "".join("".join(output["text"]) for output in outputs if output.get("name") == "stdout")


@pytest.mark.slow
def test_everything_is_folded_and_proven(outputs: list[dict[str, Any]]) -> None:
    lines = shown(outputs, "text/plain")
    assert "<Ledger of 5 BatchNorms: 5 absorbed, 0 merged, 0 removed, 0 kept>" in lines
    assert any(line.startswith("<FoldExportResult of module Sequential: passed, 5 BatchNorms") for line in lines)
    assert any(line.startswith("<Verdict of ") and line.endswith(": passed>") for line in lines)
    assert "decides alike on all test images: True" in printed(outputs)
    assert "batch_norm" not in printed(outputs)


@pytest.mark.slow
def test_reports_are_shown_as_pages_and_the_measurement_as_a_picture(outputs: list[dict[str, Any]]) -> None:
    pages = shown(outputs, "text/html")
    assert sum(page.startswith('<iframe srcdoc="') for page in pages) == 4
    (picture,) = shown(outputs, "image/svg+xml")
    assert picture.startswith("<svg")
    assert "model / plain" in picture


@pytest.mark.slow
def test_bars_are_shown_while_something_runs_and_are_gone_afterwards(outputs: list[dict[str, Any]]) -> None:
    """A display that was updated to nothing is left in the outputs, empty."""
    assert len([page for page in shown(outputs, "text/html") if not page]) == 3
    assert not [page for page in shown(outputs, "text/html") if "<progress" in page]


def test_it_is_kept_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
