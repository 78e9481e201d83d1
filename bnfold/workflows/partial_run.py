"""Runs in progress: RUN.partial, visible beside RUN, holds what a run needs to go on, until RUN is complete.

    checkpoint-*.safetensors    the latest two checkpoints
    metrics.jsonl               the metrics of the epochs so far
    tensorboard/                the same for TensorBoard, if asked for

It goes when the run is complete, or ends before its first checkpoint. Otherwise it stays, and the error says how to go
on.
"""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

from bnfold.errors import InputRefused
from bnfold.sources.checkpoint import BOARD, METRICS
from bnfold.training.checkpoints import list_checkpoints, read_checkpoint
from bnfold.workflows.folder_lock import LOCK_NAME, locked_folder
from bnfold.workflows.staging import missing_folders, remove_empty

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bnfold.training.checkpoints import Checkpoint

__all__ = ["PartialRun"]

_OWN = ("checkpoint-*.safetensors", ".checkpoint-*.safetensors", METRICS, BOARD)


class PartialRun:
    """The run in progress of a run folder.

    Attributes:
        folder: RUN.partial.
        resume_with: the command that goes on, for messages.
    """

    def __init__(self, run: Path, *, model: str) -> None:
        named = run if run.name else run.resolve()
        self.folder = named.with_name(f"{named.name}.partial")
        self.resume_with = f"bnfold train {model} -o {run} --resume"

    def claim(self, *, resume: bool, force: bool) -> Checkpoint | None:
        """Decide where the run starts; changes nothing.

        Returns:
            The checkpoint to go on from, None for a run from the start.

        Raises:
            InputRefused: nothing to resume or a damaged checkpoint; or a run is in progress, and neither `resume` nor
                `force` says what shall become of it.
        """
        if resume:
            return read_checkpoint(self.folder)
        if list_checkpoints(self.folder) and not force:
            raise InputRefused(
                "a run in progress is there already",
                where=str(self.folder),
                remedy="pass --resume to go on with it, --force to start again, or another folder with -o",
            )
        return None

    @contextlib.contextmanager
    def in_progress(self, *, resumed: bool) -> Iterator[None]:
        """Hold the folder while the block trains and saves; see the module on what becomes of it.

        Raises:
            InputRefused: it cannot be created, holds files that are not of a run, or another process trains there.
        """
        created = missing_folders(self.folder.parent)
        try:
            with contextlib.ExitStack() as held:
                self._hold(held)
                if not resumed:
                    self._refuse_strangers()
                    self._clear()
                yield from self._kept_on_failure()
                self._clear()
        finally:
            remove_empty([self.folder, *created])

    def _hold(self, held: contextlib.ExitStack) -> None:
        """Create and lock the folder."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked_folder(self.folder))
        except OSError as error:
            raise InputRefused(
                "cannot write beside the output folder",
                where=str(self.folder),
                found=error.strerror or str(error),
                remedy="choose a folder that you can write to with -o",
            ) from error

    def _kept_on_failure(self) -> Iterator[None]:
        """Run the block; where it fails, keep the files if there is a checkpoint to go on from."""
        try:
            yield
        except BaseException as error:
            kept = list_checkpoints(self.folder)
            if kept:
                error.add_note(f"the latest checkpoint is kept, {kept[-1]}: `{self.resume_with}` goes on from it")
            else:
                self._clear()
            raise

    def _own(self) -> set[Path]:
        """The files of a run in progress in the folder."""
        return {path for pattern in _OWN for path in self.folder.glob(pattern)}

    def _refuse_strangers(self) -> None:
        strangers = sorted(path.name for path in set(self.folder.glob("*")) - self._own() if path.name != LOCK_NAME)
        if strangers:
            raise InputRefused(
                "the folder of runs in progress holds files that are not of a run",
                where=str(self.folder),
                found=", ".join(strangers[:3]),
                remedy="move them, or choose another folder with -o",
            )

    def _clear(self) -> None:
        """Remove the files of a run in progress."""
        for path in self._own():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
