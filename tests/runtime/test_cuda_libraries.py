"""CUDA's libraries are found where pip has them, and what a machine lacks is named."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import create_autospec

import onnxruntime as ort
import pytest

from bnfold.runtime import cuda_libraries
from bnfold.runtime.cuda_libraries import cuda_fault, library_versions, preload_cuda

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def runtime(tmp_path: Path) -> Any:
    """Stands for the package `onnxruntime`; its loader takes the arguments that the real one takes, and loads all."""
    loader = create_autospec(ort.preload_dlls)
    return SimpleNamespace(
        __file__=str(tmp_path / "site/onnxruntime/__init__.py"), preload_dlls=loader, cuda_version="13.0"
    )


@pytest.fixture
def nvidia(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Path]]:
    """Make packages of NVIDIA with these folders of libraries, in a folder of the path; gives the folders."""

    def install(where: str, *names: str) -> list[Path]:
        home = tmp_path / where / "nvidia"
        for name in names:
            (home / name / "lib").mkdir(parents=True)
        spec = SimpleNamespace(submodule_search_locations=[str(home)])
        monkeypatch.setattr(cuda_libraries, "find_spec", lambda _name: spec)
        return [home / name / "lib" for name in names]

    return install


class FakeDriver:
    """Stands for libcuda.so.1: answers like the functions of docs.nvidia.com/cuda/cuda-driver-api."""

    def __init__(self, version: int = 13000, status: int = 0, count: int = 1) -> None:
        self._version, self._status, self._count = version, status, count

    def cuDriverGetVersion(self, number: Any) -> int:  # noqa: N802
        number._obj.value = self._version
        return 0

    def cuInit(self, flags: int) -> int:  # noqa: N802
        assert flags == 0
        return self._status

    def cuDeviceGetCount(self, number: Any) -> int:  # noqa: N802
        number._obj.value = self._count
        return self._status

    def cuGetErrorString(self, status: int, text: Any) -> int:  # noqa: N802
        text._obj.value = b"no CUDA-capable device is detected" if status == 100 else None
        return 0


def load(monkeypatch: pytest.MonkeyPatch, driver: FakeDriver | None) -> None:
    def open_library(name: str) -> FakeDriver:
        if driver is None or name != cuda_libraries.DRIVER:
            raise OSError(f"{name}: cannot open shared object file")
        return driver

    monkeypatch.setattr(ctypes, "CDLL", open_library)


def test_libraries_in_another_folder_of_the_path_are_loaded_first(runtime: Any, nvidia: Callable[..., Any]) -> None:
    cudnn, cuda, _ = nvidia("venv", "cudnn", "cu13", "nccl")
    preload_cuda(runtime)
    assert [call.kwargs for call in runtime.preload_dlls.call_args_list] == [
        {"cuda": True, "cudnn": False, "directory": str(cuda)},
        {"cuda": False, "cudnn": True, "directory": str(cudnn)},
        {},
    ]


def test_libraries_beside_onnxruntime_are_its_own_affair(runtime: Any, nvidia: Callable[..., Any]) -> None:
    nvidia("site", "cudnn", "cu13")
    preload_cuda(runtime)
    assert [call.kwargs for call in runtime.preload_dlls.call_args_list] == [{}]


def test_the_real_loader_takes_these_arguments(nvidia: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    nvidia("venv", "cudnn", "cu13")
    preload_cuda(ort)
    assert capsys.readouterr().out == ""


def test_a_runtime_without_a_loader() -> None:
    assert preload_cuda(SimpleNamespace()) == ""


def test_missing_libraries_are_named(runtime: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def complain() -> None:
        print("Failed to load libcublas.so.13: libcublas.so.13: cannot open shared object file")  # noqa: T201
        print("Failed to load /x/libcurand.so.10: wrong ELF class")  # noqa: T201
        print("Please follow https://onnxruntime.ai/docs/install/#cuda-and-cudnn to install CUDA.")  # noqa: T201

    runtime.preload_dlls.side_effect = complain
    monkeypatch.setattr(cuda_libraries, "find_spec", lambda _name: None)
    fault = cuda_fault(runtime)
    assert fault is not None
    assert (fault.found, fault.reinstall) == ("libcublas.so.13, /x/libcurand.so.10 cannot be loaded", True)


@pytest.mark.parametrize(
    ("driver", "found", "remedy"),
    [
        (None, "no NVIDIA driver", "install the NVIDIA driver"),
        (FakeDriver(version=12040), "a driver for CUDA 12, but ONNX Runtime is built for CUDA 13", "update the NVIDIA"),
        (FakeDriver(status=100), "error 100, no CUDA-capable device is detected", "CUDA_VISIBLE_DEVICES"),
        (FakeDriver(status=803), "error 803", "nvidia-smi"),
        (FakeDriver(count=0), "no CUDA-capable device", "CUDA_VISIBLE_DEVICES"),
    ],
)
def test_what_is_missing(
    driver: FakeDriver | None, found: str, remedy: str, runtime: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_libraries, "find_spec", lambda _name: None)
    load(monkeypatch, driver)
    fault = cuda_fault(runtime)
    assert fault is not None
    assert found in fault.found
    assert remedy in fault.remedy
    assert not fault.reinstall


def test_nothing_is_missing(runtime: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_libraries, "find_spec", lambda _name: None)
    load(monkeypatch, FakeDriver(version=13020))
    assert cuda_fault(runtime) is None
    assert library_versions(runtime) == {"cuda_build": "13.0", "cuda_driver": "13.2", "cudnn": None}


def test_the_version_of_cudnn_in_its_own_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """cuDNN 9.24.0 says 92400 (cudnn_version.h: 10000 major + 100 minor + patch)."""

    def open_library(_name: str) -> Any:
        return SimpleNamespace(cudnnGetVersion=FakeVersion())

    class FakeVersion:
        restype: Any = ctypes.c_int

        def __call__(self) -> int:
            assert self.restype is ctypes.c_size_t
            return 92400

    monkeypatch.setattr(ctypes, "CDLL", open_library)
    monkeypatch.setattr(cuda_libraries, "_driver_version", lambda: None)
    assert library_versions(SimpleNamespace()) == {"cuda_build": None, "cuda_driver": None, "cudnn": "9.24.0"}
