"""What a page reads is what was written; onnxruntime-web comes as it must be, or not at all."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bnfold.bundles import web_runtime
from bnfold.bundles.web_runtime import web_runtime_folder
from bnfold.errors import EnvironmentNotReady, InputRefused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def placed(content: bytes, place: dict[str, Any]) -> np.ndarray:
    part = content[place["offset"] : place["offset"] + place["bytes"]]
    return np.frombuffer(part, np.dtype(place["dtype"]).newbyteorder("<")).reshape(place["shape"])


def test_golden_values_of_a_page(bundled: Callable[..., Path], stub_runtime: Path) -> None:
    page, server = bundled("web", "page", web_runtime=stub_runtime), bundled("onnxruntime", "server")
    index = json.loads((page / "golden" / "golden.json").read_text())
    content = (page / "golden" / "golden.bin").read_bytes()
    with np.load(server / "golden" / "inputs.npz") as inputs, np.load(server / "golden" / "outputs.npz") as outputs:
        assert len(index["feeds"]) == len(inputs.files)
        for number, feed in enumerate(index["feeds"]):
            (x,), (y,) = feed["inputs"], feed["outputs"]
            np.testing.assert_array_equal(placed(content, x), inputs[f"{number}/x"])
            np.testing.assert_array_equal(placed(content, y), outputs[f"{number}/y/exact"])
            assert x["offset"] % 8 == y["offset"] % 8 == 0
            assert feed["batch"] == len(inputs[f"{number}/x"])


def test_a_page_asks_for_nothing_from_outside(bundled: Callable[..., Path], stub_runtime: Path) -> None:
    folder = bundled("web", web_runtime=stub_runtime)
    page = (folder / "index.html").read_text()
    assert "default-src 'none'" in page
    assert "connect-src 'self'" in page
    for name in ("index.html", "check.mjs", "model.mjs", "page.css"):
        text = (folder / name).read_text()
        assert "http://" not in text
        assert "https://" not in text
    assert {path.name for path in (folder / "ort").iterdir()} == set(web_runtime.WEB_FILES)


NPM = """#!/bin/sh
while [ "$#" -gt 0 ]; do case "$1" in --pack-destination) shift; cp {archive} "$1"/x.tgz;; esac; shift; done
exit {code}
"""


def fake_npm(folder: Path, files: dict[str, bytes], code: int = 0) -> str:
    """A program that packs these files."""
    archive = folder / "fake.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/dist/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    program = folder / "npm"
    program.write_text(NPM.format(archive=archive, code=code))
    program.chmod(0o755)
    return str(program)


def test_a_download_is_held_to_its_digests(stub_runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = {name: name.encode() for name in web_runtime.WEB_FILES}
    npm = fake_npm(tmp_path, right)
    monkeypatch.setattr(shutil, "which", {"npm": npm}.get)
    folder = web_runtime_folder(None, tmp_path / "one", download=True)
    assert {name: (folder / name).read_bytes() for name in right} == right
    fake_npm(tmp_path, right | {"ort.wasm.min.mjs": b"changed on the way"})
    with pytest.raises(InputRefused, match="this is not onnxruntime-web"):
        web_runtime_folder(None, tmp_path / "two", download=True)
    fake_npm(tmp_path, right, code=1)
    with pytest.raises(EnvironmentNotReady, match="npm does not fetch"):
        web_runtime_folder(None, tmp_path / "three", download=True)
    monkeypatch.setattr(shutil, "which", {}.get)
    with pytest.raises(EnvironmentNotReady, match="npm is not there"):
        web_runtime_folder(None, tmp_path / "four", download=True)


@pytest.mark.skipif(shutil.which("node") is None, reason="no node on PATH")
@pytest.mark.parametrize("name", ["model.mjs", "check.mjs"])
def test_scripts_of_a_page_are_javascript(name: str, bundled: Callable[..., Path], stub_runtime: Path) -> None:
    script = bundled("web", web_runtime=stub_runtime) / name
    subprocess.run([str(shutil.which("node")), "--check", str(script)], check=True, timeout=60)
