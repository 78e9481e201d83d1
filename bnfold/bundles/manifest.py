"""The manifest of a bundle: every file with its digest, written last, and checked when a bundle is read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.records.bundle import BundledFile, BundleReport
from bnfold.sources.digests import sha256_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MANIFEST", "golden_folder", "listed", "read_manifest"]

MANIFEST = "manifest.json"
_REMEDY = "copy the whole bundle again, or write it again with `bnfold bundle`"


def listed(folder: Path) -> tuple[BundledFile, ...]:
    """Every file in a folder but its manifest, by name."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return tuple(
        BundledFile(path.relative_to(folder).as_posix(), path.stat().st_size, sha256_of([path])) for path in found
    )


def golden_folder(folder: Path) -> Path:
    """The folder of golden values: the folder itself, or that of a bundle, which is checked.

    Raises:
        InputRefused: a file of the bundle is not as it was written.
    """
    return folder / read_manifest(folder)["golden"]["path"] if (folder / MANIFEST).is_file() else folder


def read_manifest(folder: Path) -> dict[str, Any]:
    """What the manifest of a bundle says, every file of which has the digest that it gives.

    Raises:
        InputRefused: the manifest or a file is missing or not as it was written; names the file.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        files = {each["path"]: each["sha256"] for each in manifest["files"]}
        found = manifest["schema"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputRefused(
            "the manifest of the bundle cannot be read", where=str(path), found=f"{type(error).__name__}: {error}",
            remedy=_REMEDY,
        ) from error  # fmt: skip
    if found != BundleReport.schema:
        raise InputRefused(
            "a bundle of another kind", where=str(path), found=str(found), expected=BundleReport.schema,
            remedy="write it again with this version's `bnfold bundle`",
        )  # fmt: skip
    for name, digest in files.items():
        _check_digest(folder / name, digest)
    return dict(manifest)


def _check_digest(file: Path, digest: str) -> None:
    try:
        found = sha256_of([file])
    except OSError as error:
        raise InputRefused(
            "a file of the bundle is missing", where=str(file), found=error.strerror or str(error), remedy=_REMEDY
        ) from error
    if found != digest:
        raise InputRefused(
            "a file of the bundle is not as it was written", where=str(file), found=f"sha256 {found[:12]}",
            expected=str(digest)[:12], remedy=_REMEDY,
        )  # fmt: skip
