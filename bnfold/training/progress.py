"""How far training is: a bar on a terminal's standard error and in notebooks, plain lines elsewhere."""

from __future__ import annotations

import logging
import math
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from bnfold.runtime.notebook import NotebookBar, in_notebook, notebook_bar

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Progress", "show_progress"]

logger = logging.getLogger("bnfold.training")


class Progress(Protocol):
    """What the training loop tells."""

    def step(self) -> None:
        """One step of the optimiser is done."""

    def epoch(self, text: str) -> None:
        """An epoch is done; `text` holds its metrics."""


class _Lines:
    """About ten log lines, the last epoch among them."""

    def __init__(self, n_epochs: int) -> None:
        self.n_epochs = n_epochs
        self.n_done = 0

    def step(self) -> None:
        """Steps are too many for lines."""

    def epoch(self, text: str) -> None:
        """Log every tenth part of the epochs."""
        self.n_done += 1
        if self.n_done % math.ceil(self.n_epochs / 10) == 0 or self.n_done == self.n_epochs:
            logger.info("%s", text)


class _Silent:
    """Nothing, for the processes of a distributed run that do not speak."""

    def step(self) -> None:
        """Say nothing."""

    def epoch(self, text: str) -> None:
        """Say nothing."""


class _InNotebook:
    """A bar in the notebook, with the metrics of the last epoch."""

    def __init__(self, bar: NotebookBar, n_steps: int, n_done: int) -> None:
        self.bar, self.n_steps, self.n_done, self.text = bar, n_steps, n_done, ""

    def step(self) -> None:
        """One more."""
        self.n_done += 1
        self.bar.tell(self.n_done / max(self.n_steps, 1), self.text)

    def epoch(self, text: str) -> None:
        """Beside the bar from now on."""
        self.text = text


@contextmanager
def show_progress(
    name: str, *, n_epochs: int, n_steps: int, n_done: int = 0, batch_size: int = 1, silent: bool = False
) -> Iterator[Progress]:
    """Show a bar on a terminal and in notebooks; elsewhere log about ten lines (level INFO) to `bnfold.training`.

    There is no bar on a terminal where the logger leaves out INFO.

    Args:
        name: of the network.
        n_epochs: of the whole run.
        n_steps: of the whole run.
        n_done: steps that are done already, of a run that is resumed.
        batch_size: images a step.
        silent: show nothing.
    """
    if silent:
        yield _Silent()
        return
    if in_notebook():
        with notebook_bar(f"train {name}") as drawn:
            yield _InNotebook(drawn, n_steps, n_done)
        return
    if not sys.stderr.isatty() or not logger.isEnabledFor(logging.INFO):
        yield _Lines(n_epochs)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class _Speed(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text("" if task.speed is None else f"{task.speed * batch_size:,.0f} images/s")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Speed(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with RichProgress(*columns, console=Console(stderr=True)) as bar:
        row = bar.add_task(f"train {name}", total=n_steps, completed=n_done, text="")

        class _Bar:
            def step(self) -> None:
                bar.advance(row)

            def epoch(self, text: str) -> None:
                bar.update(row, text=text)

        yield _Bar()
