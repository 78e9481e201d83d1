"""The targets there are, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bnfold.bundles import server, triton, web
from bnfold.bundles.content import Content, Made
from bnfold.bundles.manifest import MANIFEST
from bnfold.errors import InputRefused

__all__ = ["SESSION", "TARGETS", "Target", "known_target", "written_names"]

SESSION = "session.json"


@dataclass(frozen=True)
class Target:
    """A place where a file is served.

    Attributes:
        name: on the command line.
        write: makes the bundle in an empty folder.
        names: of all files and folders that it may write there.
        has_web_runtime: whether it needs onnxruntime-web.
    """

    name: str
    write: Callable[[Path, Content], Made]
    names: tuple[str, ...]
    has_web_runtime: bool = False


TARGETS = {
    target.name: target
    for target in (
        Target("onnxruntime", server.write_server, server.NAMES),
        Target("triton", triton.write_repository, triton.NAMES),
        Target("web", web.write_page, web.NAMES, has_web_runtime=True),
    )
}


def known_target(name: str) -> Target:
    """The target of a name.

    Raises:
        InputRefused: no target has the name; says which there are.
    """
    if name not in TARGETS:
        *first, last = TARGETS
        expected = f"{', '.join(first)} or {last}" if first else last
        raise InputRefused("no such target", found=repr(name), expected=expected, remedy="give one of these")
    return TARGETS[name]


def written_names() -> tuple[str, ...]:
    """What any bundle may hold: all of it is replaced when another is written to its folder."""
    return tuple(sorted({MANIFEST, SESSION, *(name for target in TARGETS.values() for name in target.names)}))
