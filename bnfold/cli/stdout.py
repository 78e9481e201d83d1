"""Standard output that says in our words when it cannot be written to, as on a full disk."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO, cast

from bnfold.errors import EnvironmentNotReady

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["checked_stdout", "silence_stdout"]


class _Checked:
    """A text stream like the one it stands for."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.failed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._told():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._told():
            self._stream.flush()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            self.failed = True
            raise EnvironmentNotReady(
                "cannot write to standard output", found=error.strerror or str(error),
                remedy="make room, or send it elsewhere",
            ) from error  # fmt: skip


@contextlib.contextmanager
def checked_stdout() -> Iterator[None]:
    """Within the block, a write to standard output that fails raises EnvironmentNotReady; BrokenPipeError stays."""
    stream = sys.stdout
    if stream is None:  # the process was started without one
        yield
        return
    checked = _Checked(stream)
    placed = sys.stdout = cast("TextIO", checked)
    try:
        yield
    finally:
        if sys.stdout is placed:  # click has put one of its own in place where a pipe broke
            sys.stdout = stream
        if checked.failed:
            silence_stdout()


def silence_stdout() -> None:
    """Send what is still buffered nowhere: nobody takes it any more (Python library, signal: SIGPIPE note)."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
