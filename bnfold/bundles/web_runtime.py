"""onnxruntime-web, of npm: one version, three files, each with the digest that it must have."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING

from bnfold.errors import EnvironmentNotReady, InputRefused
from bnfold.sources.digests import sha256_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["VERSION", "WEB_FILES", "web_runtime_folder"]

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
WEB_FILES = {
    "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""SHA-256 of what a page needs of it."""
_REMEDY = f"unpack {PACKAGE} {VERSION} of npm (`npm pack {PACKAGE}@{VERSION}`), or let --download fetch it"


def web_runtime_folder(folder: Path | None, place: Path, *, download: bool) -> Path:
    """The folder that holds `WEB_FILES`, each as it must be.

    Args:
        folder: the package, unpacked, or its `dist`; None fetches it.
        place: where to fetch it to.
        download: whether it may be fetched.

    Raises:
        InputRefused: nothing is given and nothing may be fetched, or a file is missing or another one.
        EnvironmentNotReady: npm is missing, or does not fetch it.
    """
    if folder is None:
        if not download:
            raise InputRefused(
                f"the target web needs {PACKAGE} {VERSION}", found="neither --web-runtime nor --download",
                remedy=_REMEDY,
            )  # fmt: skip
        folder = _fetched(place)
    inside = next((each for each in (folder, folder / "dist", folder / "package" / "dist") if _has_files(each)), folder)
    for name, digest in WEB_FILES.items():
        file = inside / name
        found = f"sha256 {sha256_of([file])[:12]}" if file.is_file() else "no such file"
        if found != f"sha256 {digest[:12]}":
            raise InputRefused(
                f"this is not {PACKAGE} {VERSION}", where=str(file), found=found, expected=f"sha256 {digest[:12]}",
                remedy=_REMEDY,
            )  # fmt: skip
    return inside


def _has_files(folder: Path) -> bool:
    return any((folder / name).is_file() for name in WEB_FILES)


def _fetched(place: Path) -> Path:
    """The package, fetched with npm and unpacked."""
    npm = shutil.which("npm")
    if npm is None:
        raise EnvironmentNotReady(
            f"npm is not there, which fetches {PACKAGE}",
            remedy="install Node.js, or give the package, unpacked elsewhere, with --web-runtime",
        )
    place.mkdir(parents=True)
    done = subprocess.run(  # noqa: S603 - the arguments are ours
        [npm, "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", str(place), "--silent"],
        cwd=place, check=False, capture_output=True, text=True,
    )  # fmt: skip
    archives = sorted(place.glob("*.tgz"))
    if done.returncode != 0 or not archives:
        raise EnvironmentNotReady(
            f"npm does not fetch {PACKAGE} {VERSION}",
            found=done.stderr.strip()[-300:] or f"exit code {done.returncode}",
            remedy="check the network and npm's registry, or give the package with --web-runtime",
        )  # fmt: skip
    with tarfile.open(archives[0]) as archive:
        archive.extractall(place, filter="data")
    return place / "package"
