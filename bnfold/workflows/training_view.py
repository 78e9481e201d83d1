"""What is seen of a run in progress: the bar or lines on standard error, and the journal."""

from __future__ import annotations

import contextlib
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from bnfold.sources.checkpoint import BOARD, METRICS
from bnfold.training.journal import open_journal
from bnfold.training.progress import show_progress

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from bnfold.training.journal import Journal
    from bnfold.training.progress import Progress
    from bnfold.training.run import Run

__all__ = ["Shown", "shown"]

logger = logging.getLogger("bnfold.training")


class Shown:
    """What the user sees of a run: the progress, and the journal where this process writes one."""

    def __init__(self, run: Run, progress: Progress, journal: Journal | None) -> None:
        self.progress = progress
        self._journal = journal
        self._n_epochs = run.recipe.epochs
        self._n_images = run.recipe.batch_size
        self._seconds = float(run.history[-1]["seconds"]) if run.history else 0.0
        self._step = run.step if run.history else 0

    def epoch(self, run: Run) -> None:
        """An epoch is done."""
        line = run.history[-1]
        if self._journal is not None:
            self._journal.write(line)
        seconds = line["seconds"] - self._seconds
        speed = (run.step - self._step) * self._n_images / seconds
        self._seconds, self._step = line["seconds"], run.step
        left = timedelta(seconds=round(seconds * (self._n_epochs - run.epoch)))
        goal = run.task.goal
        self.progress.epoch(
            f"epoch {run.epoch}/{self._n_epochs}: loss {line['train_loss']:.4f}, "
            f"validation {goal} {line['val'][goal]:.4f}, {speed:,.0f} images/s, {left} left"
        )
        if run.stopped_early:
            logger.info("stopped: the validation split was best in epoch %d", run.best_epoch)

    def test(self, metrics: Mapping[str, float]) -> None:
        """The test split is measured."""
        if self._journal is not None:
            self._journal.write({"event": "test", "test": dict(metrics)})


@contextlib.contextmanager
def shown(name: str, run: Run, folder: Path, *, tensorboard: bool) -> Iterator[Shown]:
    """Open what the first process shows and writes; the others show nothing."""
    n_epochs, batch_size = run.recipe.epochs, run.recipe.batch_size
    n_steps = n_epochs * run.data.n_batches("train", batch_size)
    board = folder / BOARD if tensorboard else None
    with contextlib.ExitStack() as stack:
        main = run.engine.is_main
        journal = stack.enter_context(open_journal(folder / METRICS, board, run.history)) if main else None
        progress = stack.enter_context(
            show_progress(
                name,
                n_epochs=n_epochs,
                n_steps=n_steps,
                n_done=run.step,
                batch_size=batch_size,
                silent=not main,
            )
        )
        yield Shown(run, progress, journal)
