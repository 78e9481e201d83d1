"""A signal ends a command at once, even where a library swallows the exception of its handler."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from bnfold.cli.main import LazyGroup
from bnfold.errors import InputRefused
from bnfold.interrupts import Interrupted, handled_signals, interruptible, received
from bnfold.workflows.staging import staged_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

ENDS = [
    (signal.SIGINT, "interrupted", 130),
    (signal.SIGTERM, "terminated", 143),
    (signal.SIGHUP, "terminated", 129),
]


def end_with(work: Callable[[], None]) -> Result:
    group = LazyGroup(name="bnfold", lazy={}, commands={"do": click.Command("do", callback=work)})
    return CliRunner().invoke(group, ["do"])


def swallowed(signum: int) -> None:
    with contextlib.suppress(BaseException):
        signal.raise_signal(signum)


class Dropping:
    """Python drops what a finalizer raises, and prints a traceback."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(("signum", "verb", "code"), ENDS)
def test_a_signal_is_one_line_and_leaves_no_stage(tmp_path: Path, signum: int, verb: str, code: int) -> None:
    def work() -> None:
        with staged_folder(tmp_path / "out", ("model.onnx",), force=False):
            signal.raise_signal(signum)

    result = end_with(work)
    assert (result.exit_code, result.stderr) == (code, f"error: {verb}; nothing half-written was kept\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("signum", "verb", "code"), ENDS)
def test_a_signal_that_became_another_error(signum: int, verb: str, code: int) -> None:
    def work() -> None:
        swallowed(signum)
        raise InputRefused("cannot write this network")

    result = end_with(work)
    assert (result.exit_code, result.stderr) == (code, f"error: {verb}; nothing half-written was kept\n")


def test_a_swallowed_signal_ends_the_work_behind_the_call(tmp_path: Path) -> None:
    def work() -> None:
        with staged_folder(tmp_path / "out", ("model.onnx",), force=False) as stage:
            with interruptible():
                swallowed(signal.SIGINT)
            (stage / "model.onnx").write_text("the job ran on")

    assert end_with(work).exit_code == 130
    assert list(tmp_path.iterdir()) == []


def test_a_signal_dropped_in_a_finalizer_prints_no_traceback() -> None:
    result = end_with(lambda: Dropping() and None)
    assert (result.exit_code, result.stderr) == (130, "error: interrupted; nothing half-written was kept\n")


def test_the_handlers_are_put_back() -> None:
    before = [signal.getsignal(signum) for signum, _, _ in ENDS]
    with handled_signals():
        assert all(signal.getsignal(signum) not in before for signum, _, _ in ENDS)
        swallowed(signal.SIGTERM)
        assert isinstance(received(), Interrupted)
    assert [signal.getsignal(signum) for signum, _, _ in ENDS] == before
    assert received() is None


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handled_signals(), interruptible():
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_sets_no_handler() -> None:
    seen = []

    def work() -> None:
        with handled_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
