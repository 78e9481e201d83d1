"""Files that a command writes besides its work: looked at before it begins, and never one of those it reads."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from bnfold.errors import InputRefused

__all__ = ["refuse_overwriting", "require_writable", "writable"]

P = TypeVar("P", str, Path, None)

READ = ("session", "source", "weights", "inputs", "files", "baseline", "model", "run", "file", "images", "classes")
"""Parameters of the commands that name what is read."""
WRITTEN = {
    "json_file": "--json", "junit": "--junit", "markdown_file": "--markdown", "html": "--html", "picture": "--picture",
    "differences": "--differences",
}  # fmt: skip
"""Parameters of the commands that name a file to write, and the options that set them."""


def writable(ctx: click.Context, param: click.Parameter, value: P) -> P:
    """Refuse, as the callback of an option, a file that cannot be written; "-" is standard output."""
    del param
    if value is not None and value != "-" and not ctx.resilient_parsing:
        require_writable(Path(value))
    return value


def require_writable(path: Path) -> None:
    """Refuse a file that cannot be written; nothing is created.

    Raises:
        InputRefused: it is a folder, or lies in none that can be written to.
    """
    folder = Path(os.path.realpath(path)).parent
    if path.is_dir():
        found = "a folder"
    elif path.exists() and not path.is_file():  # a device or a pipe: it stays, and its folder with it
        if os.access(path, os.W_OK):
            return
        found = "not writable"
    elif not folder.is_dir():
        found = f"no folder {folder if path.is_symlink() else path.parent}"
    elif not os.access(folder, os.W_OK | os.X_OK):
        found = f"the folder {folder} is not writable"
    else:
        return
    raise InputRefused(
        "cannot write the report", where=str(path), found=found,
        remedy="choose a file in a folder that exists and that you can write to",
    )  # fmt: skip


def refuse_overwriting(parameters: Mapping[str, Any]) -> None:
    """Refuse a file to write that the same command reads, under this name or another.

    Raises:
        click.UsageError: there is one.
    """
    for name, option in WRITTEN.items():
        target = parameters.get(name)
        if not isinstance(target, (str, Path)) or target == "-":  # html is a flag in fold-export
            continue
        for read in _files_read(parameters):
            if _same(Path(target), read):
                raise click.UsageError(f"{option} names {read}, which this command reads: choose another file.")


def _files_read(parameters: Mapping[str, Any]) -> Iterator[Path]:
    """Every path that may be read, among them FILE of FILE.py:FACTORY."""
    for name in READ:
        value = parameters.get(name)
        for read in value if isinstance(value, tuple) else (value,):
            if read is not None:
                yield Path(read)
                yield Path(str(read).rpartition(":")[0])


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)
