"""What ONNX Runtime's TensorRT provider needs besides CUDA: NVIDIA's inference library and its ONNX parser."""

from __future__ import annotations

import ctypes
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bnfold.runtime.cuda_libraries import cuda_fault, preload_cuda
from bnfold.runtime.providers.spec import Fault

__all__ = ["preload_tensorrt", "tensorrt_fault", "tensorrt_version"]

PROVIDER = "libonnxruntime_providers_tensorrt.so"
LINKED = re.compile(rb"\0(libnv(?:infer|infer_plugin|onnxparser)\.so\.\d+)(?=\0)")


def preload_tensorrt(ort: Any) -> None:
    """Load CUDA's libraries, and TensorRT's where its package of pip (`tensorrt_libs`) has them.

    What is not there is left to the system's own search.

    Args:
        ort: the imported package.
    """
    preload_cuda(ort)
    for name in _linked(ort):
        for folder in _library_folders():
            if (folder / name).is_file():
                _load(str(folder / name))


def tensorrt_fault(ort: Any) -> Fault | None:
    """Ask for each thing that the provider needs: what CUDA does, and the libraries of TensorRT.

    Args:
        ort: the imported package.

    Returns:
        The first that is missing; None where all are there.
    """
    preload_tensorrt(ort)
    missing = [name for name in _linked(ort) if _load(name) is None]
    if missing:
        return Fault(f"{', '.join(missing)} cannot be loaded", "", reinstall=True)
    return cuda_fault(ort)


def tensorrt_version(ort: Any) -> str | None:
    """The version of the TensorRT that is loaded, None without one.

    `getInferLibVersion` gives 10000 major + 100 minor + patch, before TensorRT 10 1000 major + 100 minor + patch.
    """
    preload_tensorrt(ort)
    name = next((name for name in _linked(ort) if name.startswith("libnvinfer.")), None)
    library = None if name is None else _load(name)
    if library is None:
        return None
    number = int(library.getInferLibVersion())
    scale = 10_000 if number >= 100_000 else 1000
    return f"{number // scale}.{number % scale // 100}.{number % 100}"


def _linked(ort: Any) -> list[str]:
    """The names, with their major versions, of the libraries that the provider was linked with; none without it."""
    file = Path(ort.__file__).parent / "capi" / PROVIDER
    names = LINKED.findall(file.read_bytes()) if file.is_file() else []
    return list(dict.fromkeys(name.decode() for name in names))


def _library_folders() -> list[Path]:
    spec = find_spec("tensorrt_libs")
    return [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec is not None else []


def _load(name: str) -> ctypes.CDLL | None:
    """The library, for those that are loaded later, too; None where it cannot be."""
    try:
        return ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return None
