"""Errors a user can act on, each tied to one exit code of the command line."""

from __future__ import annotations

import errno

__all__ = ["FULL", "BnfoldError", "EnvironmentNotReady", "GateFailed", "InputRefused", "unwritable"]

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says of a disk without room."""


class BnfoldError(Exception):
    """An end of work that the user can mend.

    Args:
        what: what went wrong, one clause.
        where: the file, layer or option it concerns.
        found: what was there.
        expected: what should have been there.
        remedy: what to do now, an imperative clause.
    """

    exit_code: int = 1

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        found: str | None = None,
        expected: str | None = None,
        remedy: str | None = None,
    ) -> None:
        self.what = what
        self.where = where
        self.found = found
        self.expected = expected
        self.remedy = remedy
        super().__init__(self.sentence())

    def sentence(self) -> str:
        """The error on one line: what, where, found, expected, remedy."""
        text = self.what
        if self.where is not None:
            text += f" in {self.where}"
        details = [f"{label} {value}" for label, value in (("found", self.found), ("expected", self.expected)) if value]
        if details:
            text += ": " + ", ".join(details)
        if self.remedy is not None:
            text += f"; {self.remedy}"
        return " ".join(text.split())


class GateFailed(BnfoldError):  # noqa: N818 - named for what ended the work
    """A check failed: outputs not equal, slower than allowed, accuracy lost (exit code 1)."""

    exit_code = 1


class InputRefused(BnfoldError):  # noqa: N818 - named for what ended the work
    """The input is unreadable, damaged, not foldable safely, or unsupported (exit code 3)."""

    exit_code = 3


class EnvironmentNotReady(BnfoldError):  # noqa: N818 - named for what ended the work
    """The machine cannot do the job as it is: a missing package, a provider that does not load (exit code 4)."""

    exit_code = 4


def unwritable(what: str, error: OSError, *, where: str | None, remedy: str) -> BnfoldError:
    """Our error for a write that the system refused: a full disk is the environment's fault, all else the path's.

    Args:
        what: what could not be written, one clause.
        error: the system's.
        where: the file.
        remedy: for a path that cannot be written; a full disk wants room.
    """
    found = error.strerror or str(error)
    if error.errno in FULL:
        return EnvironmentNotReady(what, where=where, found=found, remedy="make room, or choose another disk")
    return InputRefused(what, where=where, found=found, remedy=remedy)
