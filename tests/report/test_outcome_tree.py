"""The tree of outcomes in a terminal: as wide as that, short where all went one way, every reason where not."""

from __future__ import annotations

import io
import sys

import pytest

from bnfold.records import Ledger, LedgerEntry
from bnfold.records.causes import Cycle
from bnfold.report import render_outcomes
from bnfold.report.outcome_tree import tree_fits


def ledger() -> Ledger:
    gone = [LedgerEntry(f"layer1.{k}.bn", "absorbed", (f"layer1.{k}.conv",), None, 1.0, 1.0, 0) for k in range(9)]
    mixed = [
        LedgerEntry("layer2.0.bn1", "absorbed", ("layer2.0.conv1",), None, 1.0, 1.0, 0),
        LedgerEntry("layer2.0.bn2", "kept", (), Cycle(3), 1.0, 1.0, 0),
        LedgerEntry("layer2.1.bn", "removed", (), None, 1.0, 1.0, 0),
    ]
    return Ledger((*gone, *mixed))


def test_what_went_one_way_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    render_outcomes(ledger())
    lines = [line.strip("│├└─ ") for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "layer1 9 absorbed",
        "layer2 1 absorbed, 1 removed, 1 kept",
        "0 1 absorbed, 1 kept",
        "bn1 absorbed into layer2.0.conv1",
        "bn2 kept: scale of channel 3: input and output share one scale, a cycle around it",
        "1.bn removed",
    ]


@pytest.mark.parametrize("width", [40, 72])
def test_lines_are_as_wide_as_the_terminal(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    render_outcomes(ledger())
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) > 6  # what does not fit goes on in the next line
    assert "a cycle around it" in " ".join(" ".join(line.strip("│├└─ ") for line in lines).split())


def test_a_name_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    render_outcomes(Ledger((LedgerEntry("[red]bn", "absorbed", ("[b]",), None, 1.0, 1.0, 0),)))
    assert capsys.readouterr().out.strip() == "[red]bn absorbed into [b]"


def test_nothing_without_batchnorms(capsys: pytest.CaptureFixture[str]) -> None:
    render_outcomes(Ledger(()))
    assert capsys.readouterr().out == ""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("lines", "fits"), [("50", True), ("12", False)])
def test_whether_a_terminal_shows_it_whole(lines: str, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not tree_fits(ledger())  # no terminal
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", lines)
    assert tree_fits(ledger()) is fits
