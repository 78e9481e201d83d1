"""`bnfold fold-export --quick`, and the bar of its stages on a terminal."""

from __future__ import annotations

import io
import json
import logging
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bnfold.cli.fold_export import _show_stages
from bnfold.folding import fold_model
from bnfold.workflows.stages import STAGES, expected_seconds

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import onnx_ir as ir
    from click.testing import Result

    from bnfold.records import Ledger


def _verify_of(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / "report.json").read_text())["verify"]
    return facts


def test_quick_is_said_in_the_report_and_the_summary(cli: Callable[..., Result], network: Path, tmp_path: Path) -> None:
    results = {name: cli("fold-export", network, "-o", tmp_path / name, *options, "--html")
               for name, options in (("usual", ()), ("quick", ("--quick",)))}  # fmt: skip
    assert [result.exit_code for result in results.values()] == [0, 0]
    usual, quick = (_verify_of(tmp_path / name) for name in results)
    assert (usual["quick"], quick["quick"]) == (False, True)
    assert 0 < quick["n_compared"] < usual["n_compared"]
    assert quick["certificate"] == usual["certificate"]
    said = "quick: besides the certificate, the file was compared on one input"
    assert [said in result.stdout for result in results.values()] == [False, True]
    pages = [(tmp_path / name / "report.html").read_text() for name in results]
    assert ["Quick: compared on one input." in page for page in pages] == [False, True]
    models = [(tmp_path / name / "model.onnx").read_bytes() for name in results]
    assert models[0] == models[1]


def test_a_wrong_file_fails_quick_or_not(
    cli: Callable[..., Result], network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fold_wrongly(model: ir.Model, **_: bool) -> Ledger:
        import onnx_ir as ir

        ledger = fold_model(model)
        weight = next(value for value in model.graph.initializers.values() if value.const_value.size > 4)
        weight.const_value = ir.tensor(weight.const_value.numpy() * np.float32(1.01), name=weight.name)
        return ledger

    monkeypatch.setattr("bnfold.folding.fold_model", fold_wrongly)
    result = cli("fold-export", network, "-o", tmp_path / "output", "--quick")
    assert result.exit_code == 1, result.output
    assert not (tmp_path / "output" / "model.onnx").exists()
    facts = _verify_of(tmp_path / "output")
    assert not facts["passed"]
    assert not facts["quick"]
    assert facts["departure"] is not None


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def _informing(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("bnfold")
    monkeypatch.setattr(logger, "level", logging.INFO)
    logger.manager._clear_cache()  # type: ignore[attr-defined]  # what isEnabledFor remembers


@pytest.mark.usefixtures("_informing")
def test_a_terminal_sees_the_stage_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with _show_stages({"measure": False, "budget_s": 7.0}) as (progress, share):
        assert progress is not None
        assert share is not None
        for stage in ("load", "export", "fold", "simplify", "verify"):
            progress(stage)
        share(1.0)
    assert "verify" in terminal.getvalue()
    assert "7 s left" in terminal.getvalue()  # the budget of the measurement


@pytest.mark.usefixtures("_informing")
def test_other_streams_get_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with _show_stages({"measure": False}) as told:
        assert told == (None, None)


def test_every_stage_has_an_expected_length() -> None:
    assert (*expected_seconds(), "bench") == STAGES
    assert list(expected_seconds(measure=True)) == [*STAGES[:-2], "measure", "verify"]
