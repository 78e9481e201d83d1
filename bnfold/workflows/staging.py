"""Outputs that are either complete or absent: files are written aside and moved into place together.

The place aside is a hidden folder inside the output folder, so that the moves stay on one file system even where the
output folder is a mount of its own. Two processes do not write to one folder: `folder_lock`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bnfold.errors import InputRefused
from bnfold.workflows.folder_lock import locked_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["existing_outputs", "missing_folders", "remove_empty", "require_free", "require_writable", "staged_folder"]

_PREVIOUS = ".previous"
_REPLACE = "pass --force (in Python force=True) to replace it, or choose another folder"


def existing_outputs(output: Path, names: Sequence[str]) -> list[Path]:
    """Which of the files `names` exist in `output`."""
    return [output / name for name in names if (output / name).exists()]


def require_free(output: Path, names: Sequence[str], *, force: bool) -> None:
    """Refuse an output folder that cannot be written to, or holds one of `names` and `force` is not set.

    Raises:
        InputRefused: what is in the way.
    """
    require_writable(output)
    _refuse_existing("the output exists already", output, names, force=force)


def _refuse_existing(what: str, output: Path, names: Sequence[str], *, force: bool) -> None:
    existing = existing_outputs(output, names)
    if existing and not force:
        raise InputRefused(what, where=str(existing[0]), remedy=_REPLACE)


def require_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written to, or not be created; nothing is created here.

    Raises:
        InputRefused: names what is there instead.
    """
    nearest = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not nearest.is_dir():
        found = f"{nearest} is no folder"
    elif not os.access(nearest, os.W_OK | os.X_OK):
        found = f"the folder {nearest} is not writable"
    else:
        return
    raise _unwritable(folder, found)


def _unwritable(output: Path, found: str) -> InputRefused:
    return InputRefused(
        "cannot write to the output folder",
        where=str(output),
        found=found,
        remedy="choose a folder that you can write to with -o (in Python output=)",
    )


@contextlib.contextmanager
def staged_folder(output: Path, names: Sequence[str], *, force: bool) -> Iterator[Path]:
    """Yield an empty folder whose files replace those called `names` in `output` when the block ends well.

    On any exception, `KeyboardInterrupt` included, `output` is left as it was found: older files stay, and folders that
    were created here are removed again.

    Args:
        output: the folder to write to; created with its parents where missing.
        names: every file the caller may write; those that exist and are not written again are removed with `force`.
        force: whether existing files may be replaced.

    Raises:
        InputRefused: `output` is not a folder, cannot be written to, another process is writing to it, or it holds one
            of `names`, from the start or by now, and `force` is not set.
    """
    require_free(output, names, force=force)
    created = missing_folders(output)
    try:
        with contextlib.ExitStack() as held:
            stage = _make_stage(output, held)
            yield stage
            _refuse_existing("the output appeared meanwhile", output, names, force=force)
            _move_into_place(stage, output, names)
    except BaseException:
        remove_empty(created)
        raise


def missing_folders(folder: Path) -> list[Path]:
    """`folder` and its parents that do not exist, innermost first."""
    missing = []
    for candidate in (folder, *folder.parents):
        if candidate.exists():
            break
        missing.append(candidate)
    return missing


def _make_stage(output: Path, held: contextlib.ExitStack) -> Path:
    """Lock the folder and make an empty one in it; both end with `held`."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        held.enter_context(locked_folder(output))
        stage = Path(tempfile.mkdtemp(prefix=".bnfold-", dir=output))
    except OSError as error:
        raise _unwritable(output, error.strerror or str(error)) from error
    held.callback(shutil.rmtree, stage, ignore_errors=True)
    return stage


def _move_into_place(stage: Path, output: Path, names: Sequence[str]) -> None:
    """Replace the files `names` of `output` by those in `stage`; put the older ones back if that does not end well."""
    written = sorted(stage.iterdir())
    previous = stage / _PREVIOUS
    previous.mkdir()
    try:
        for old in existing_outputs(output, names):
            old.replace(previous / old.name)
        for new in written:
            new.replace(output / new.name)
    except BaseException:
        for new in written:
            if not new.exists():
                _remove(output / new.name)
        for old in previous.iterdir():
            old.replace(output / old.name)
        raise


def _remove(moved: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if moved.is_dir():
        shutil.rmtree(moved)
    else:
        moved.unlink(missing_ok=True)


def remove_empty(folders: Sequence[Path]) -> None:
    """Remove the folders, innermost first, as far as they exist and are empty."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()
