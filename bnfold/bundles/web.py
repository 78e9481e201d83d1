"""The target `web`: a page that runs the model with onnxruntime-web, and judges it where it is opened."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.bundles.content import Content, Made, copied
from bnfold.bundles.server import copy_model
from bnfold.bundles.web_runtime import VERSION, WEB_FILES
from bnfold.errors import InputRefused

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["NAMES", "write_page"]

MODEL, GOLDEN, RUNTIME = "model.onnx", "golden", "ort"
PAGES = {"index.html": "web_index.html", "page.css": "web_page.css", "model.mjs": "web_model.mjs",
         "check.mjs": "web_check.mjs", "README.md": "web_readme.md"}  # fmt: skip
NAMES = (*PAGES, MODEL, GOLDEN, RUNTIME)


def write_page(stage: Path, content: Content) -> Made:
    """Write the page.

    Args:
        stage: an empty folder.
        content: the file, judged; it has a `web_runtime`.

    Raises:
        InputRefused: another provider than the CPU is asked for, or a session, which browsers have not.
    """
    if content.provider != "cpu":
        raise InputRefused(
            "a browser has no such provider", found=content.provider, expected="cpu", remedy="leave --provider out"
        )
    if content.web_runtime is None:
        raise ValueError("a page needs onnxruntime-web")
    first = content.inputs[0]
    words = {
        "NAME": content.name,
        "VERSION": VERSION,
        "INPUT": json.dumps(first.name),
        "DTYPE": first.dtype,
        "SHAPE": json.dumps([1 if size is None else size for size in first.shape]),
    }
    for name, ours in PAGES.items():
        copied(ours, stage / name, words)
    copy_model(content.files, stage / MODEL)
    (stage / RUNTIME).mkdir()
    for name in WEB_FILES:
        shutil.copyfile(content.web_runtime / name, stage / RUNTIME / name)
    (stage / GOLDEN).mkdir()
    _write_golden(content, stage / GOLDEN)
    model = content.files[0].resolve()
    data = [file.resolve().relative_to(model.parent).as_posix() for file in content.files[1:]]
    left_out = ("options of the session do not apply in a browser and were left out",) * (content.session is not None)
    return Made(GOLDEN, MODEL, {"onnxruntime_web": VERSION, "external_data": data}, left_out)


def _write_golden(content: Content, folder: Path) -> None:
    """The golden values as browsers read them: one file of bytes, little-endian, and where each array lies in it."""
    account = json.loads((content.golden / "bundle.json").read_text(encoding="utf-8"))
    placed = _Placed()
    feeds = []
    with np.load(content.golden / "inputs.npz") as inputs, np.load(content.golden / "outputs.npz") as outputs:
        for number, feed in enumerate(account["feeds"]):
            feeds.append(
                {
                    "batch": feed["batch"],
                    "inputs": [
                        {"name": one.name, **placed.at(inputs[f"{number}/{one.name}"])} for one in content.inputs
                    ],
                    "outputs": [
                        {"name": one.name, **_expected(placed, outputs, f"{number}/{one.name}")}
                        for one in content.outputs
                    ],
                }
            )
    (folder / "golden.bin").write_bytes(b"".join(placed.parts))
    (folder / "golden.json").write_text(json.dumps({"feeds": feeds}, indent=1) + "\n", encoding="utf-8")


class _Placed:
    """Arrays one after the other, each at a multiple of 8 bytes, as typed arrays want it."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.end = 0

    def at(self, array: np.ndarray) -> dict[str, Any]:
        """Place an array; its type, shape and place."""
        own = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        content = own.tobytes()
        place = {"dtype": array.dtype.name, "shape": list(array.shape), "offset": self.end, "bytes": len(content)}
        padding = -len(content) % 8
        self.parts.append(content + bytes(padding))
        self.end += len(content) + padding
        return place


def _expected(placed: _Placed, outputs: Any, key: str) -> dict[str, Any]:
    """The float64 values of an output, and for whole numbers where every execution of the source agrees with them."""
    exact = outputs[f"{key}/exact"]
    place = placed.at(exact)
    if exact.dtype.kind in "iub":
        executions = [outputs[name] == exact for name in outputs.files if name.rpartition("/")[0] == key]
        place["agreed"] = placed.at(np.logical_and.reduce(executions).astype(np.uint8))
    return place
