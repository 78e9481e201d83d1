"""What a command does around its work where the work runs Python of the user: a network's `forward`, a data set."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from bnfold.errors import InputRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["runs_user_code"]


@contextlib.contextmanager
def runs_user_code() -> Iterator[None]:
    """Send what the user's code prints to standard error, and let it not end the program. Also a decorator.

    Standard output belongs to our results, and an exit code of 0 to work that was done.

    Raises:
        InputRefused: the user's code raises SystemExit; with the notes of the work that it ended.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except SystemExit as error:
        refusal = InputRefused(
            "the network's code ends the program",
            found=f"SystemExit({error.code!r})",
            remedy="raise another exception instead, or return",
        )
        for note in getattr(error, "__notes__", []):
            refusal.add_note(note)
        raise refusal from error
