"""Signals that end a command, which no library between may swallow.

Python runs a signal handler between two steps of whatever is running. Inside a library the exception it raises may be
caught, turned into another one, or dropped in a callback; so the handler also notes the signal, and `interruptible`
raises it again behind the library's call. Python library, signal: "Handlers and exceptions".
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["Interrupted", "handled_signals", "interruptible", "received"]

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # SIGHUP does not exist on Windows

_received: list[int] = []


class Interrupted(KeyboardInterrupt):
    """A signal asked the process to end; the code that it passes through cleans up as for Ctrl-C."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


def received() -> Interrupted | None:
    """The first signal since `handled_signals` was entered, if any."""
    return Interrupted(_received[0]) if _received else None


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` behind the block if a signal came, whatever the block ended with."""
    try:
        yield
    finally:
        stop = received()
        if stop is not None:
            raise stop


@contextlib.contextmanager
def handled_signals() -> Iterator[None]:
    """Turn the signals that end a process into `Interrupted`; the handlers found are put back.

    A signal that the parent told us to ignore (`nohup`) stays ignored. Does nothing outside the main thread, where
    Python lets no handler be set.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received.clear()
    hook = sys.unraisablehook
    old = {}
    try:
        for signum in [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]:
            if signal.getsignal(signum) not in (signal.SIG_IGN, None):
                old[signum] = signal.signal(signum, _interrupt)
        sys.unraisablehook = _silent_if_interrupted
        yield
    finally:
        sys.unraisablehook = hook
        for signum, handler in old.items():
            signal.signal(signum, handler)
        _received.clear()


def _interrupt(signum: int, frame: FrameType | None) -> None:
    del frame
    _received.append(signum)
    raise Interrupted(signum)


def _silent_if_interrupted(dropped: sys.UnraisableHookArgs) -> None:
    """Print no traceback of an `Interrupted` that a callback has dropped: it is noted, and raised again."""
    if not isinstance(dropped.exc_value, Interrupted):
        sys.__unraisablehook__(dropped)
