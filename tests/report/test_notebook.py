"""Notebooks: records have a line, a page and a picture, and long work has a bar that is gone at the end."""

from __future__ import annotations

import builtins
import importlib.util
import pydoc
import sys
import types
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from report_facts import SCRIPT, bench_facts, fold_export_report

import bnfold
import bnfold.workflows
from bnfold.errors import EnvironmentNotReady, InputRefused
from bnfold.records import BenchRatio, BenchReport, BenchRun, DoctorReport, InspectReport, Ledger, Verdict
from bnfold.records.machine import Check
from bnfold.report import notebook_progress, notebook_stages
from bnfold.report.notebook import record_page
from bnfold.runtime.notebook import NotebookBar, in_notebook
from bnfold.training.progress import show_progress

if TYPE_CHECKING:
    from pathlib import Path


def bench_report() -> BenchReport:
    facts = bench_facts()
    runs = tuple(BenchRun(**run) for run in facts["runs"])
    return BenchReport(facts["environment"], runs, tuple(BenchRatio(**ratio) for ratio in facts["ratios"]))


# ---- a line


def test_every_record_is_one_line() -> None:
    report = fold_export_report()
    assert repr(report.ledger) == "<Ledger of 2 BatchNorms: 1 absorbed, 0 merged, 0 removed, 1 kept>"
    assert repr(report).startswith(f"<FoldExportReport of ./{SCRIPT}.onnx: passed, 2 BatchNorms: 1 absorbed")
    assert repr(report.verify) == "<Verdict of 42,000 values on CPUExecutionProvider: passed>"
    assert repr(fold_export_report(passed=False).verify).endswith("failed, output logits diverges>")
    ratio = BenchRatio("a", "b", 1, 0.91, 0.9, 0.92, "faster")
    assert repr(BenchReport({}, (), (ratio,))) == "<BenchReport of a / b: 0.910 (0.900 to 0.920), faster>"
    assert repr(BenchReport({}, (), (ratio, ratio))).endswith("faster and 1 more>")
    checks = (Check("onnx", "ok", True, "1.19"), Check("CUDA", "missing", False, "none"))
    assert repr(DoctorReport("cpu", checks, {})) == "<DoctorReport of cpu: able, CUDA missing>"


def test_help_and_completion_show_the_functions() -> None:
    assert {"bench", "fold", "fold_export", "inspect", "verify"} <= set(dir(bnfold))
    text = pydoc.plain(pydoc.render_doc(bnfold))
    for name in set(bnfold.__all__) - {"__version__"}:
        assert f"    {name}(" in text


# ---- a page


@pytest.mark.parametrize("kind", [Ledger, InspectReport, Verdict, DoctorReport])
def test_records_without_a_page_of_a_command_have_one(kind: type) -> None:
    report = fold_export_report()
    records: dict[type, Any] = {
        Ledger: report.ledger, InspectReport: InspectReport(report.source, report.ledger), Verdict: report.verify,
        DoctorReport: DoctorReport("cpu", (), {"threads": 1}),
    }  # fmt: skip
    page = record_page(records[kind]).decode()
    assert SCRIPT not in page
    assert "prefers-color-scheme: dark" in page
    if kind in (Ledger, InspectReport):
        assert "blocks.3.norm" in page
        assert "scale pinned by" in page


def test_a_page_is_framed_and_a_short_one_is_low() -> None:
    report = fold_export_report()
    assert report._repr_html_().startswith('<iframe srcdoc="&lt;!DOCTYPE html&gt;')
    assert "height: 15rem" in report.ledger._repr_html_()
    assert "height: 32rem" in report._repr_html_()
    assert report._repr_html_().count("<") == 2  # the frame alone: everything else is escaped
    assert b"href=" not in record_page(report)  # a link of a frame without an address leads to the notebook
    assert b'id="network"' in record_page(report)


def test_a_page_without_matplotlib_says_what_its_pictures_need(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("bnfold.report.notebook.find_spec", lambda name: None if name == "matplotlib" else found(name))
    page = record_page(bench_report()).decode()
    assert "Pictures need matplotlib; run `pip install bnfold[report]`." in page
    assert "<svg" not in page


# ---- a picture


def test_the_picture_of_a_measurement(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figure = bench_report().figure()
    assert figure._repr_svg_().startswith("<svg")
    assert "prefers-color-scheme:dark" in figure._repr_svg_()
    assert repr(figure).startswith("<Picture of ")
    assert figure.save(tmp_path / "bench.svg").read_text() == figure.svg
    assert figure.save(tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputRefused, match="the picture must be of a known kind"):
        figure.save(tmp_path / "bench.gif")
    with pytest.raises(InputRefused, match="nothing was measured"):
        BenchReport({}, (), ()).figure()


def test_a_picture_without_matplotlib_is_refused_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    imported = builtins.__import__

    def missing(name: str, *arguments: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(name=name)
        return imported(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(EnvironmentNotReady, match=r"pip install \"bnfold\[report\]\""):
        bench_report().figure()


# ---- a bar


class Display:
    """Stands for IPython's display: what was shown, and each update of it."""

    def __init__(self) -> None:
        self.drawn: list[str] = []

    def show(self, content: Any, *, display_id: bool) -> Display:
        assert display_id
        self.drawn.append(content)
        return self

    def update(self, content: Any) -> None:
        self.drawn.append(content)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Display:
    """A process that is a kernel."""
    display = Display()
    ipython, shell = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    shell.HTML, shell.display = str, display.show  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", shell)
    return display


def test_a_terminal_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()
    terminal = types.ModuleType("IPython")
    terminal.get_ipython = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", terminal)
    assert not in_notebook()
    with notebook_progress("bench", None) as told:
        assert told is None


def test_a_bar_is_drawn_and_gone_at_the_end(notebook: Display) -> None:
    def interrupted() -> None:
        with notebook_progress("bench <files>", None) as told:
            assert told is not None
            told(1.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert 'value="0.0000"' in notebook.drawn[0]
    assert "bench &lt;files&gt;" in notebook.drawn[0]
    assert 'value="1.0000"' in notebook.drawn[1]
    assert notebook.drawn[-1] == ""


def test_a_bar_is_not_drawn_for_every_step(notebook: Display) -> None:
    now = [0.0]
    bar = NotebookBar("train", clock=lambda: now[0])
    for step in range(99):
        now[0] += 0.01
        bar.tell(step / 100)
    assert len(notebook.drawn) == 1 + 3


def test_stages_are_named(notebook: Display, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnfold.runtime.notebook.REFRESH_S", 0.0)
    with notebook_stages("fold-export", None, ("load", "fold")) as told:
        assert told is not None
        told("fold")
    assert "50% fold" in notebook.drawn[1]
    with notebook_stages("fold-export", print, ("load",)) as told:
        assert told is print


def test_training_has_a_bar(notebook: Display) -> None:
    with show_progress("net", n_epochs=1, n_steps=2) as progress:
        progress.epoch("accuracy <0.9>")
        progress.step()
        progress.step()
    assert "100% accuracy &lt;0.9&gt;" in notebook.drawn[-2]
    assert notebook.drawn[-1] == ""


def test_folding_quantising_and_evaluating_have_bars(
    notebook: Display, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch, generator = pytest.importorskip("torch"), np.random.default_rng(0)
    monkeypatch.setattr("bnfold.runtime.notebook.REFRESH_S", 0.0)
    nn = torch.nn
    module = nn.Sequential(nn.BatchNorm2d(2), nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)).eval()
    bnfold.fold(module, (2, 2, 4, 4))
    assert [text for text in notebook.drawn if "67% verify" in text]
    assert notebook.drawn[-1] == ""

    example = generator.standard_normal((32, 2, 4, 4)).astype(np.float32)
    bnfold.fold_export(module, (2, 2, 4, 4), tmp_path / "file", budget_s=0)
    np.savez(tmp_path / "samples.npz", input=example)
    notebook.drawn.clear()
    file = tmp_path / "file" / "model.onnx"
    bnfold.quantize(file, tmp_path / "int8", inputs=tmp_path / "samples.npz", budget_s=0)
    assert [text for text in notebook.drawn if f"quantize {file}" in text and "calibrate" in text]
    assert notebook.drawn[-1] == ""

    np.savez(tmp_path / "data.npz", x=example, y=np.arange(32) % 3)
    notebook.drawn.clear()
    bnfold.evaluate(file, data=f"npz:{tmp_path / 'data.npz'}", split="test")
    assert [text for text in notebook.drawn if "evaluate" in text and "100%" in text]
    assert notebook.drawn[-1] == ""
