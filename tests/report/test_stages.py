"""The bar of a command's stages: how much is done, and how long the rest takes."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import pytest

from bnfold.report import StagePace, stage_bar
from bnfold.report.stages import time_left

if TYPE_CHECKING:
    from collections.abc import Callable


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


def _pace(clock: Callable[[], float], budget_s: float = 0.0) -> StagePace:
    return StagePace({"load": 1.0, "export": 2.0, "verify": 4.0}, {"bench": budget_s} if budget_s else {}, clock)


def test_nothing_is_known_before_a_stage_has_ended(clock: _Clock) -> None:
    pace = _pace(clock)
    assert pace.left() is None
    pace.begin("load")
    clock.now = 5.0
    assert pace.left() is None
    assert pace.done() == 0.0


def test_stages_that_ended_say_how_long_the_others_take(clock: _Clock) -> None:
    """A machine of a third of the speed; a budget of time is the same everywhere."""
    pace = _pace(clock, budget_s=10.0)
    pace.begin("load")
    clock.now = 3.0
    pace.begin("export")
    assert pace.left() == pytest.approx(3 * (2 + 4) + 10)
    clock.now = 5.0
    assert pace.left() == pytest.approx(3 * (2 + 4) - 2 + 10)
    clock.now = 30.0  # longer than expected: no less than what comes behind it
    assert pace.left() == pytest.approx(3 * 4 + 10)


def test_a_stage_that_tells_its_share_is_believed(clock: _Clock) -> None:
    pace = _pace(clock)
    pace.begin("load")
    clock.now = 1.0
    pace.begin("export")
    clock.now = 3.0
    pace.begin("verify")
    clock.now = 5.0
    pace.tell(0.25)
    assert pace.left() == pytest.approx(6.0)
    assert pace.done() == pytest.approx(5 / 11)


def test_a_stage_of_another_name_takes_no_time(clock: _Clock) -> None:
    pace = _pace(clock)
    pace.begin("unpack")
    clock.now = 7.0
    pace.begin("load")
    assert pace.left() is None
    clock.now = 8.0
    pace.begin("export")
    assert pace.left() == pytest.approx(6.0)


def test_seconds_in_words() -> None:
    assert [time_left(seconds) for seconds in (None, 0.4, 89.6, 300.0)] == ["", "0 s left", "90 s left", "5 min left"]


def test_the_bar_names_the_stage_and_the_time_left(clock: _Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    pace = _pace(clock)
    pace.begin("load")
    clock.now = 3.0
    pace.begin("export")
    with stage_bar(pace):
        pass
    assert "export" in terminal.getvalue()
    assert "18 s left" in terminal.getvalue()
