"""How far long work is: a bar on a terminal's standard error and in notebooks, plain lines elsewhere."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bnfold.runtime.notebook import in_notebook, notebook_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["notebook_progress", "notebook_stages", "progress_bar"]

log = logging.getLogger("bnfold.report")


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[float], None]]:
    """Give a function that is told the share done, from 0 to 1; nothing is shown where INFO is not logged."""
    if not log.isEnabledFor(logging.INFO) or not sys.stderr.isatty():
        yield _lines(title)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda share: bar.update(task, completed=share)


@contextmanager
def notebook_progress(title: str, progress: Callable[[float], None] | None) -> Iterator[Callable[[float], None] | None]:
    """`progress` as it is; where it is None and this is a notebook, a bar that is gone at the end."""
    if progress is not None or not in_notebook():
        yield progress
        return
    with notebook_bar(title) as bar:
        yield bar.tell


@contextmanager
def notebook_stages(
    title: str, progress: Callable[[str], None] | None, stages: Sequence[str]
) -> Iterator[Callable[[str], None] | None]:
    """`progress`, which is told the name of each stage, as it is; where it is None and this is a notebook, a bar."""
    if progress is not None or not in_notebook():
        yield progress
        return
    with notebook_bar(title) as bar:

        def begin(stage: str) -> None:
            bar.tell(stages.index(stage) / len(stages) if stage in stages else 0.0, stage)

        yield begin


def _lines(title: str) -> Callable[[float], None]:
    """A line at each quarter."""
    told = 0

    def tell(share: float) -> None:
        nonlocal told
        if int(share * 4) > told:
            told = int(share * 4)
            log.info("%s: %d %%", title, told * 25)

    return tell
