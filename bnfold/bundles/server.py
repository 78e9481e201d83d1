"""The target `onnxruntime`: ONNX Runtime behind a server of a page, and a check that needs it and NumPy alone."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from bnfold.bundles.content import Content, Made, copied
from bnfold.errors import InputRefused
from bnfold.runtime.providers import provider_names, provider_spec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["NAMES", "write_server"]

MODEL, GOLDEN = "model.onnx", "golden"
SCRIPTS = {
    "check.py": "onnxruntime_check.py", "golden_values.py": "golden_values.py", "serve.py": "serve.py",
    "session_options.py": "session_options.py", ".dockerignore": "dockerignore",
}  # fmt: skip
NAMES = (*SCRIPTS, "Dockerfile", "README.md", "requirements.txt", MODEL, GOLDEN)


def write_server(stage: Path, content: Content) -> Made:
    """Write what serves a file over HTTP.

    Args:
        stage: an empty folder.
        content: the file, judged.

    Raises:
        InputRefused: there is no package of ONNX Runtime with the provider to install.
    """
    spec = provider_spec(content.provider)
    if not spec.wheel:
        served = [name for name in provider_names() if provider_spec(name).wheel]
        raise InputRefused(
            "no server is written for the provider", found=content.provider, expected=" or ".join(served),
            remedy="give one of these with --provider",
        )  # fmt: skip
    words = {
        "NAME": content.name,
        "RUNTIME": spec.wheel,
        "PROVIDER": spec.ort_name,
        "MAX_BATCH": "the file's own" if content.max_batch is None else str(content.max_batch),
        "CHECK": "RUN python check.py" if spec.on_host else "# check.py needs the device: run it in the container",
        "DOCKER": ", and fails where the golden values are not met" if spec.on_host else "",
    }
    for name, ours in SCRIPTS.items():
        copied(ours, stage / name)
    for name, ours in (("Dockerfile",) * 2, ("requirements.txt",) * 2, ("README.md", "onnxruntime_readme.md")):
        copied(ours, stage / name, words)
    copy_model(content.files, stage / MODEL)
    shutil.copytree(content.golden, stage / GOLDEN)
    return Made(GOLDEN, MODEL, {"runtime": spec.wheel, "runs": content.instances})


def copy_model(files: Sequence[Path], target: Path) -> None:
    """Copy a model; its external data keeps its names, by which the model knows it."""
    model, *data = files
    shutil.copyfile(model, target)
    for file in data:
        place = target.parent / file.resolve().relative_to(model.resolve().parent)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)
