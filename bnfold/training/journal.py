"""The metrics of a run in progress: metrics.jsonl, and the same for TensorBoard where it is asked for."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from bnfold.sources.extras import require

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["Journal", "open_journal"]


class Journal:
    """Takes the lines of a run: each is one JSON object with its `event`, "epoch" or "test"."""

    def __init__(self, file: Any, board: Any) -> None:
        self._file = file
        self._board = board

    def write(self, line: Mapping[str, Any]) -> None:
        """Add a line, to the disk at once: who watches the run sees it."""
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()
        if self._board is None or line["event"] != "epoch":
            return
        scalars = {"train/loss": line["train_loss"], "train/lr": line["lr"]}
        scalars.update({f"val/{name}": value for name, value in line["val"].items()})
        for name, value in scalars.items():
            self._board.add_scalar(name, value, line["step"])


@contextlib.contextmanager
def open_journal(file: Path, board: Path | None, history: Sequence[Mapping[str, Any]]) -> Iterator[Journal]:
    """Write a journal again, with the lines that a run which is resumed already has.

    Args:
        file: metrics.jsonl.
        board: the folder for TensorBoard's files, None for none.
        history: the lines of the epochs that are done.

    Raises:
        EnvironmentNotReady: tensorboardX, which writes TensorBoard's files, is not installed.
    """
    with contextlib.ExitStack() as stack:
        writer = None
        if board is not None:
            tensorboard = require("tensorboardX", extra="tensorboard", purpose="--tensorboard")
            for old in board.glob("events.*"):
                old.unlink()
            writer = stack.enter_context(tensorboard.SummaryWriter(logdir=str(board), write_to_disk=True))
        journal = Journal(stack.enter_context(file.open("w", encoding="utf-8")), writer)
        for line in history:
            journal.write(line)
        yield journal
