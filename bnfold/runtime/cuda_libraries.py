"""What ONNX Runtime's CUDA provider needs of this machine: libraries, a driver, a GPU; loaded, or missed by name."""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bnfold.runtime.providers.spec import Fault

__all__ = ["cuda_fault", "gpu_model", "library_versions", "preload_cuda"]

log = logging.getLogger("bnfold.runtime")

# Folders of NVIDIA's packages that hold what the provider links: cu13 for CUDA 13, one for each library before.
FOLDERS = ("cu[0-9]*", "cublas", "cuda_nvrtc", "curand", "cufft", "cuda_runtime", "cudnn")
DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
NOT_LOADED = re.compile(r"^Failed to load (\S+?):? ", re.MULTILINE)  # what preload_dlls prints


def preload_cuda(ort: Any) -> str:
    """Have ONNX Runtime's CUDA provider find its libraries, where NVIDIA's packages of pip have them.

    `onnxruntime.preload_dlls` looks beside ONNX Runtime itself, then where the system looks; NVIDIA's packages may lie
    in another folder of Python's path (`pip install --target`), and are tried first then. Does nothing before ONNX
    Runtime 1.21, which has no such function.

    Args:
        ort: the imported package.

    Returns:
        What ONNX Runtime printed, a line for each library that it did not find.
    """
    if not hasattr(ort, "preload_dlls"):
        return ""
    beside = Path(ort.__file__).resolve().parents[1]
    printed = io.StringIO()
    for folder in _library_folders():
        if not folder.is_relative_to(beside):
            is_cudnn = folder.parent.name == "cudnn"
            with contextlib.redirect_stdout(io.StringIO()):  # what is not in this folder, others may have
                ort.preload_dlls(cuda=not is_cudnn, cudnn=is_cudnn, directory=str(folder))
    with contextlib.redirect_stdout(printed):  # standard output is for results
        ort.preload_dlls()
    for line in printed.getvalue().splitlines():
        log.debug("onnxruntime.preload_dlls: %s", line)
    return printed.getvalue()


def _library_folders() -> list[Path]:
    """The folders of CUDA's and cuDNN's libraries in NVIDIA's packages on Python's path, each behind those it needs."""
    spec = find_spec("nvidia")
    homes = [Path(home).resolve() for home in (spec.submodule_search_locations or ())] if spec is not None else []
    return [folder for name in FOLDERS for home in homes for folder in sorted(home.glob(f"{name}/lib"))]


def cuda_fault(ort: Any) -> Fault | None:
    """Ask for each thing that the CUDA provider needs: its libraries, the driver, a GPU.

    Args:
        ort: the imported package.

    Returns:
        The first that is missing; None where all are there.
    """
    missing = NOT_LOADED.findall(preload_cuda(ort))
    if missing:
        return Fault(f"{', '.join(missing)} cannot be loaded", "", reinstall=True)
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return Fault(f"no NVIDIA driver ({DRIVER} cannot be loaded)", "install the NVIDIA driver")
    version, built = _driver_version(), _built_for(ort)
    if version and built and version // 1000 < built:
        return Fault(
            f"a driver for CUDA {version // 1000}, but ONNX Runtime is built for CUDA {built}",
            "update the NVIDIA driver, or install an onnxruntime-gpu for its CUDA",
        )
    number = ctypes.c_int(0)
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(number))
    if status or number.value == 0:
        return Fault(
            f"the NVIDIA driver shows no GPU ({_in_words(driver, status or 100)})",
            "check CUDA_VISIBLE_DEVICES, and that nvidia-smi shows a GPU",
        )
    return None


def _built_for(ort: Any) -> int | None:
    """The major version of CUDA that ONNX Runtime was built with, None where it does not say."""
    major = str(getattr(ort, "cuda_version", "")).partition(".")[0]
    return int(major) if major.isdigit() else None


def _in_words(driver: Any, status: int) -> str:
    """The driver's own words for a CUresult (docs.nvidia.com/cuda/cuda-driver-api)."""
    text = ctypes.c_char_p()
    driver.cuGetErrorString(status, ctypes.byref(text))
    return f"error {status}, {text.value.decode()}" if text.value else f"error {status}"


def library_versions(ort: Any) -> dict[str, str | None]:
    """Versions of the CUDA that ONNX Runtime was built with, of the driver's CUDA, and of the cuDNN that is loaded.

    Args:
        ort: the imported package.

    Returns:
        `cuda_build`, `cuda_driver` and `cudnn`, None where it cannot be asked.
    """
    preload_cuda(ort)
    driver, cudnn = _driver_version(), _cudnn_version()
    return {
        "cuda_build": str(getattr(ort, "cuda_version", "")) or None,
        "cuda_driver": None if driver is None else f"{driver // 1000}.{driver % 1000 // 10}",
        "cudnn": None if cudnn is None else f"{cudnn // 10000}.{cudnn % 10000 // 100}.{cudnn % 100}",
    }


def gpu_model() -> str | None:
    """Name, driver and memory of the first GPU as nvidia-smi gives them, None where it does not answer."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader", "--id=0"]
    try:
        answer = subprocess.run(  # noqa: S603  # the command is the constant above
            query, capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def _driver_version() -> int | None:
    """1000 times the major version of the driver's CUDA plus 10 times the minor one; None without a driver."""
    number = ctypes.c_int(0)
    try:
        return None if ctypes.CDLL(DRIVER).cuDriverGetVersion(ctypes.byref(number)) else number.value
    except OSError:
        return None


def _cudnn_version() -> int | None:
    """10000 times the major version of cuDNN 9 plus 100 times the minor one plus the patch; None without it."""
    try:
        ask = ctypes.CDLL("cudnn64_9.dll" if sys.platform == "win32" else "libcudnn.so.9").cudnnGetVersion
    except OSError:
        return None
    ask.restype = ctypes.c_size_t
    return int(ask())
