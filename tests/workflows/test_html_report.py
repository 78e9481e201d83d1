"""`bnfold fold-export --html`: the page is moved into place with the other files, also when the gate fails."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import onnx_ir as ir
import pytest

from bnfold.folding import fold_model
from bnfold.report.html import render_html

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    from bnfold.records import Ledger


def test_the_page_is_that_of_the_json(cli: Callable[..., Result], network: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    result = cli("fold-export", network, "-o", output, "--html", "-q")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == str(output / "report.html")
    assert sorted(path.name for path in output.iterdir()) == ["model.onnx", "report.html", "report.json"]
    assert (output / "report.html").read_bytes() == render_html(json.loads((output / "report.json").read_text()))
    assert cli("fold-export", network, "-o", output, "-q", "--force").exit_code == 0
    assert not (output / "report.html").exists()  # it would be that of the older file


def test_the_time_of_every_layer_is_measured_for_a_page_alone(
    cli: Callable[..., Result], network: Path, tmp_path: Path
) -> None:
    """A profile takes time."""
    for name, page, is_told in (("with", ["--html"], True), ("without", [], False)):
        output = tmp_path / name
        assert cli("fold-export", network, "-o", output, "-q", "--budget", "0.2", *page).exit_code == 0
        report = json.loads((output / "report.json").read_text())
        assert bool(report["timing"]["layers"]) is is_told
        assert [node["op"] for node in report["network"]["after"]["nodes"]] == ["Conv", "Relu"]


def test_the_page_says_what_failed(
    cli: Callable[..., Result], network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fold_wrongly(model: ir.Model, **_: bool) -> Ledger:
        ledger = fold_model(model)
        weight = next(value for value in model.graph.initializers.values() if value.const_value.size > 4)
        weight.const_value = ir.tensor(weight.const_value.numpy() * 1.01, dtype=weight.dtype, name=weight.name)
        return ledger

    monkeypatch.setattr("bnfold.folding.fold_model", fold_wrongly)
    output = tmp_path / "output"
    assert cli("fold-export", network, "-o", output, "--html", "-q").exit_code == 1
    page = (output / "report.html").read_text()
    assert "Not equal" in page
    assert not (output / "model.onnx").exists()


def test_bench_page_holds_the_proof_of_the_very_file(cli: Callable[..., Result], network: Path, tmp_path: Path) -> None:
    output, html, picture = tmp_path / "output", tmp_path / "bench.html", tmp_path / "bench.svg"
    assert cli("fold-export", network, "-o", output, "-q").exit_code == 0
    arguments = ("--budget", "0.2", "--threads", "1", "-q", "--html", html, "--picture", picture)
    assert cli("bench", output / "model.onnx", *arguments).exit_code == 0
    assert "1 found: 1 absorbed" in html.read_text()
    assert picture.read_text().startswith("<svg")
    report = json.loads((output / "report.json").read_text())
    report["output"]["sha256"] = "of another file"
    (output / "report.json").write_text(json.dumps(report))
    assert cli("bench", output / "model.onnx", *arguments).exit_code == 0
    assert "Not checked here" in html.read_text()
