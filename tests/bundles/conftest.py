"""Bundles of the small network."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bnfold.bundles import web_runtime

if TYPE_CHECKING:
    from collections.abc import Callable

sys.path.insert(0, str(Path(__file__).parent))  # what the tests of this folder share


@pytest.fixture
def bundled(network: Path, tmp_path: Path) -> Callable[..., Path]:
    """Bundle the network for a target; the folder."""
    from bnfold import bundle

    def make(target: str, name: str = "bundle", **options: object) -> Path:
        bundle(network, target, tmp_path / name, threads=1, **options)
        return tmp_path / name

    return make


@pytest.fixture
def stub_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for onnxruntime-web, of which nothing is run."""
    folder = tmp_path / "package" / "dist"
    folder.mkdir(parents=True)
    for name in web_runtime.WEB_FILES:
        (folder / name).write_bytes(name.encode())
        monkeypatch.setitem(web_runtime.WEB_FILES, name, hashlib.sha256(name.encode()).hexdigest())
    return folder.parent
