"""Which build of ONNX Runtime is installed, and which extra of bnfold brings a missing package."""

from __future__ import annotations

import functools
import importlib
import sys
from importlib.metadata import PackageNotFoundError, distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.errors import EnvironmentNotReady
from bnfold.runtime.providers import Provider, provider_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from importlib.metadata import Distribution

__all__ = ["EXTRAS", "installed_builds", "installed_version", "missing_package", "require_onnxruntime"]

# Distributions that install the import package `onnxruntime`; two of them overwrite each other's files.
BUILDS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-cann",
    "onnxruntime-coreml",
    "onnxruntime-directml",
    "onnxruntime-migraphx",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
    "onnxruntime-silicon",
    "onnxruntime-training",
    "onnxruntime-vitisai",
    "onnxruntime-webgpu",
    "onnxruntime-windowsml",
    "ort-nightly",
    "ort-nightly-directml",
    "ort-nightly-gpu",
    "ort-nightly-qnn",
)

EXTRAS: dict[str, str | None] = {
    "onnxruntime": "cpu",
    "onnxsim": None,  # in `cpu` and in `gpu`, and the wrong one would bring a second ONNX Runtime
    "torch": "torch",
    "safetensors": "torch",
    "sklearn": "train",
    "PIL": "images",
    "accelerate": "train",
    "tensorboardX": "tensorboard",
    "timm": "zoo",
    "torchvision": "zoo",
    "matplotlib": "report",
}
"""Optional import package -> the extra of bnfold that installs it, None where it is installed by itself."""


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution, None where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def installed_builds() -> dict[str, str]:
    """The distributions of ONNX Runtime that are installed where it is imported from, with their versions.

    One that lies in another folder behind it on the path (`pip install --target`) is not used, and overwrites nothing.
    """
    found = _on_the_path(distributions, tuple(sys.path))
    spec = find_spec("onnxruntime")
    if spec is not None and spec.origin is not None:
        home = _folder(Path(spec.origin).parents[1])  # the package itself may be a link
        found = [build for build in found if build[2] == home]
    builds: dict[str, str] = {}
    for name, number, _ in found:
        builds.setdefault(name, number)  # the first on the path, where one is in several folders
    return builds


@functools.lru_cache(maxsize=1)
def _on_the_path(find: Callable[..., Iterable[Distribution]], _path: tuple[str, ...]) -> list[tuple[str, str, Path]]:
    """The builds in every folder of the path; asked for with each session, and looked up once."""
    return [(name, own.version, _folder(own.locate_file(""))) for name in BUILDS for own in find(name=name)]


def _folder(path: Any) -> Path:
    return Path(str(path)).resolve()


def missing_package(package: str) -> EnvironmentNotReady:
    """The error for an import package that is not installed, with the line that installs it."""
    extra = EXTRAS.get(package)
    line = f'pip install "bnfold[{extra}]"' if extra else f"pip install {package}"
    return EnvironmentNotReady(f"the package {package} is not installed", remedy=f"run `{line}`")


def reinstall_line(builds: list[str], provider: Provider) -> str:
    """The pip line that leaves exactly one build of ONNX Runtime."""
    remove = f"pip uninstall -y {' '.join(builds)} && " if builds else ""
    return f'{remove}pip install "bnfold[{provider_spec(provider).extra}]"'


def require_onnxruntime(provider: Provider = "cpu") -> Any:
    """Import ONNX Runtime after making sure that exactly one build is installed.

    Args:
        provider: which build the remedy names.

    Raises:
        EnvironmentNotReady: no build, several builds (they overwrite each other's files), or one that does not import.
    """
    builds = list(installed_builds())
    line = f"run `{reinstall_line(builds, provider)}`"
    if len(builds) > 1:
        raise EnvironmentNotReady(
            "ONNX Runtime is installed more than once, and the builds overwrite each other's files",
            found=" and ".join(builds), expected="one build", remedy=line,
        )  # fmt: skip
    spec = find_spec("onnxruntime")
    if not builds and (spec is None or spec.origin is None):
        raise EnvironmentNotReady("ONNX Runtime is not installed", remedy=line)
    try:
        module = importlib.import_module("onnxruntime")
        _ = module.InferenceSession
    except (ImportError, OSError, AttributeError) as error:
        raise EnvironmentNotReady("ONNX Runtime does not import", found=str(error), remedy=line) from error
    return module
