"""One process at a time writes into an output folder.

The lock is the operating system's (`flock`, on Windows `msvcrt.locking`) on a small file in the folder: it ends with
the process that holds it, however that ends, so that a file left behind by a killed one is in nobody's way. A network
file system may keep no locks (the system then says so): there the check when files are moved into place has to do,
which refuses files that appeared meanwhile.

https://man7.org/linux/man-pages/man2/flock.2.html
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import sys
from typing import TYPE_CHECKING

from bnfold.errors import InputRefused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["LOCK_NAME", "locked_folder"]

LOCK_NAME = ".bnfold.lock"
_BEHIND_THE_TEXT = 1 << 20  # where Windows locks a byte: a locked one could not be read, and the owner stands in front
_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)

log = logging.getLogger("bnfold.workflows")


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold an existing folder for this process while the block runs.

    Raises:
        InputRefused: another process holds it; the message names it.
        OSError: the folder cannot be written to.
    """
    descriptor = _locked(folder)
    try:
        yield
    finally:
        _release(descriptor, folder / LOCK_NAME)


def _locked(folder: Path) -> int:
    """Open and lock the file; one that its owner removed in between was that owner's and is tried again."""
    path = folder / LOCK_NAME
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        with contextlib.ExitStack() as held:
            held.callback(os.close, descriptor)
            if not _lock(descriptor):
                raise _in_use(folder, os.read(descriptor, 200).decode("utf-8", "replace"))
            if _is_still(descriptor, path):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()} {socket.gethostname()}".encode())
                held.pop_all()
                return descriptor


def _lock(descriptor: int) -> bool:
    """Whether the lock was free; True as well where the file system has no locks."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, _BEHIND_THE_TEXT, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            os.lseek(descriptor, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            os.lseek(descriptor, 0, os.SEEK_SET)
            return False
        log.debug("the output folder cannot be locked: %s", error.strerror)
    return True


def _is_still(descriptor: int, path: Path) -> bool:
    """Whether the open file is the one that has the name now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _release(descriptor: int, path: Path) -> None:
    """Remove the file while it is locked, so that no one else's is removed; Windows wants it closed first."""
    if sys.platform == "win32":
        os.close(descriptor)
    with contextlib.suppress(OSError):  # it may be gone, or be open in a process that is about to be refused
        path.unlink()
    if sys.platform != "win32":
        os.close(descriptor)


def _in_use(folder: Path, owner: str) -> InputRefused:
    pid, _, host = owner.partition(" ")
    elsewhere = f" on {host}" if host and host != socket.gethostname() else ""
    return InputRefused(
        "another bnfold process is writing to the output folder",
        where=str(folder),
        found=f"process {pid}{elsewhere}" if pid else None,
        remedy="wait until it has ended, or choose another folder with -o",
    )
