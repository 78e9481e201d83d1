"""Progress: a bar on a terminal, lines elsewhere, nothing with --quiet."""

from __future__ import annotations

import io
import logging
import sys
from typing import TYPE_CHECKING

import pytest

from bnfold.cli.log_lines import configure_logging
from bnfold.report import progress_bar

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    logger = logging.getLogger("bnfold")
    before = (logger.level, logger.propagate, list(logger.handlers))
    yield
    logger.setLevel(before[0])
    logger.propagate = before[1]
    logger.handlers = before[2]


def run_to_the_end() -> None:
    with progress_bar("bench") as progress:
        for part in range(1, 101):
            progress(part / 100)


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(logging.INFO)
    run_to_the_end()
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [f"bench: {percent} %" for percent in (25, 50, 75, 100)]
    assert captured.out == ""


def test_nothing_when_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(logging.WARNING)
    run_to_the_end()
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    configure_logging(logging.INFO)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    run_to_the_end()
    assert "bench" in terminal.getvalue()
    assert "100%" in terminal.getvalue()
    assert capsys.readouterr().out == ""
