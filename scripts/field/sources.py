"""The files and trained networks of scripts/field_files.toml: what is stated of each, and where it lies."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["FieldSource", "cache", "field_sources", "versions"]

SCRIPTS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class FieldSource:
    """A file or a trained network that others wrote.

    Args:
        package: the distribution that ships it.
        version: of the package.
        name: unique, for tables and command lines.
        exporter: what wrote the file.
        found: BatchNorms in it.
        kept: of these, how many stay.
        path: the file inside the package, None for a network.
        factory: the function of scripts/field_networks.py that makes the network, None for a file.
        shapes: of the inputs in a real request, None where the file states all sizes but the batch.
    """

    package: str
    version: str
    name: str
    exporter: str
    found: int
    kept: int
    path: str | None = None
    factory: str | None = None
    shapes: tuple[tuple[int, ...], ...] | None = None

    @property
    def folder(self) -> Path:
        """Where scripts/fetch_field.sh puts the package."""
        return cache() / f"{self.package}-{self.version}"

    @property
    def arguments(self) -> list[str]:
        """The SOURCE for `bnfold`; a file takes no option, a network the shapes of its inputs."""
        if self.path is not None:
            return [str(self.folder / self.path)]
        shapes = ["x".join(map(str, shape)) for shape in self.shapes or ()]
        options = [word for shape in shapes for word in ("--input-shape", shape)]
        return [f"{SCRIPTS / 'field_networks.py'}:{self.factory}", *options]


def cache() -> Path:
    """The folder of the packages: $BNFOLD_FIELD, else one in the user's cache."""
    own = os.environ.get("BNFOLD_FIELD")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bnfold" / "field"


def versions() -> dict[str, str]:
    """The version of each package, as scripts/constraints-field.txt pins it."""
    lines = (SCRIPTS / "constraints-field.txt").read_text(encoding="utf-8").splitlines()
    pins = (line.split()[0].partition("==") for line in lines if line and not line.startswith("#"))
    return {name: version for name, _, version in pins}


def field_sources() -> tuple[FieldSource, ...]:
    """All of them, files first."""
    stated = tomllib.loads((SCRIPTS / "field_files.toml").read_text(encoding="utf-8"))
    pins = versions()
    return tuple(_source(entry, pins) for kind in ("files", "networks") for entry in stated[kind])


def _source(entry: dict[str, Any], pins: dict[str, str]) -> FieldSource:
    shapes = entry.pop("shapes", None)
    package = entry["package"]
    name = f"{package}/{Path(entry['path']).stem if 'path' in entry else entry['factory']}"
    return FieldSource(
        **entry,
        name=name,
        version=pins[package],
        shapes=None if shapes is None else tuple(map(tuple, shapes)),
    )
