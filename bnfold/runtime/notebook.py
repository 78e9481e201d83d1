"""Bars in notebooks: an HTML progress element that is shown once and updated in its place; no widgets are needed."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["NotebookBar", "in_notebook", "notebook_bar"]

REFRESH_S = 0.25


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook; a terminal's IPython is none."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


class NotebookBar:
    """A bar in the output of the cell that runs.

    Args:
        title: what is done.
        clock: the seconds now.
    """

    def __init__(self, title: str, clock: Callable[[], float] = time.monotonic) -> None:
        shown: Any = import_module("IPython.display")
        self._title, self._clock, self._html = title, clock, shown.HTML
        self._told = clock()
        self._handle = shown.display(shown.HTML(self._markup(0.0, "")), display_id=True)

    def tell(self, share: float, text: str = "") -> None:
        """How much is done, from 0 to 1, and a text beside it; drawn at most four times a second, and at the end."""
        if share < 1 and self._clock() - self._told < REFRESH_S:
            return
        self._told = self._clock()
        self._handle.update(self._html(self._markup(share, text)))

    def remove(self) -> None:
        """Leave nothing of it."""
        self._handle.update(self._html(""))

    def _markup(self, share: float, text: str) -> str:
        bar = f'<progress value="{share:.4f}" max="1" style="width: 20rem"></progress>'
        return f"<div>{escape(self._title)} {bar} {share:.0%} {escape(text)}</div>"


@contextmanager
def notebook_bar(title: str) -> Iterator[NotebookBar]:
    """A bar for as long as the block takes."""
    bar = NotebookBar(title)
    try:
        yield bar
    finally:
        bar.remove()
