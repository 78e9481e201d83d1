"""How far long work is, on standard error: a bar on a terminal, plain lines elsewhere, nothing with --quiet."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["progress_bar"]

log = logging.getLogger("bnfold.report")


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[float], None]]:
    """Give a function that is told the share done, from 0 to 1."""
    if not log.isEnabledFor(logging.INFO) or not sys.stderr.isatty():
        yield _lines(title)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda share: bar.update(task, completed=share)


def _lines(title: str) -> Callable[[float], None]:
    """A line at each quarter."""
    told = 0

    def tell(share: float) -> None:
        nonlocal told
        if int(share * 4) > told:
            told = int(share * 4)
            log.info("%s: %d %%", title, told * 25)

    return tell
