"""Steps that a fold can do without: where one fails, what it was about stays as it is, and bnfold says so.

Whatever a file holds, a fault of one rule must not end the command: the result is proven equal to the source anyway.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from bnfold.errors import BnfoldError
from bnfold.records.causes import Cause, Refusal

__all__ = ["Failure", "attempted"]

_T = TypeVar("_T")
log = logging.getLogger("bnfold.attempts")


@dataclass(frozen=True)
class Failure:
    """A step that raised: what it was, and with which error."""

    what: str
    error: str

    @property
    def reason(self) -> str:
        """`the rule for Mul failed (IndexError): report it`."""
        return f"{self.what} failed ({self.error}): report it"

    @property
    def refusal(self) -> Refusal:
        """Why the node that it was about keeps its units."""
        return Refusal(Cause.FAILED_RULE, self.what, self.error)


def attempted(what: str, where: str, step: Callable[[], _T]) -> _T | Failure:
    """What `step()` returns; where it raises, a `Failure`, with a warning, and its traceback in the debug log.

    The caller takes back what the step had changed before.

    Args:
        what: for the reason: "the rule for Mul".
        where: the layer, for the warning.
        step: whatever can be left out.

    Raises:
        BnfoldError: from `step`, as it is: these are about the input, not about bnfold.
        MemoryError: as it is.
    """
    try:
        return step()
    except (BnfoldError, MemoryError):
        raise
    except Exception as error:  # any other error is a fault of the step, which we can do without
        failure = Failure(what, type(error).__name__)
        message = " ".join(str(error).split())[:200]
        log.warning("%s; it was left out at %s: %s (--verbose shows the traceback)", failure.reason, where, message)
        log.debug("%s failed at %s", what, where, exc_info=True)
        return failure
