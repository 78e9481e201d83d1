"""TensorRT as far as a machine without a GPU tells: what is missing is named, and TF32 is not hidden behind CUDA."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from bnfold.runtime import provider_spec, tensorrt_libraries
from bnfold.runtime.placement import rounds_to_tf32
from bnfold.runtime.providers import Fault, chain, session_providers
from bnfold.runtime.tensorrt_libraries import preload_tensorrt, tensorrt_fault, tensorrt_version

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

LINKED = b"\0libcublas.so.13\0libnvinfer.so.10\0libnvonnxparser.so.10\0createNvOnnxParser_INTERNAL\0"
LINKED += b"libnvinfer_plugin.so.10\0"


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A build of ONNX Runtime with the provider, linked with TensorRT 10; CUDA itself is all there."""
    capi = tmp_path / "onnxruntime" / "capi"
    capi.mkdir(parents=True)
    (capi / "libonnxruntime_providers_tensorrt.so").write_bytes(b"\x7fELF" + LINKED)
    monkeypatch.setattr(tensorrt_libraries, "preload_cuda", lambda _ort: "")
    monkeypatch.setattr(tensorrt_libraries, "cuda_fault", lambda _ort: None)
    return SimpleNamespace(__file__=str(capi.parent / "__init__.py"))


def present(monkeypatch: pytest.MonkeyPatch, *names: str, version: int = 100904) -> list[str]:
    """Only these libraries can be loaded; gives what was asked for."""
    asked: list[str] = []

    def load(name: str, **_mode: Any) -> Any:
        asked.append(name)
        if name.rpartition("/")[2] not in names:
            raise OSError(f"{name}: cannot open shared object file")
        return SimpleNamespace(getInferLibVersion=lambda: version)

    monkeypatch.setattr(ctypes, "CDLL", load)
    return asked


def test_the_libraries_that_the_build_was_linked_with_are_missed_by_name(build: Any, monkeypatch: Any) -> None:
    present(monkeypatch, "libnvinfer.so.10")
    fault = tensorrt_fault(build)
    assert fault == Fault("libnvonnxparser.so.10, libnvinfer_plugin.so.10 cannot be loaded", "", reinstall=True)
    present(monkeypatch, "libnvinfer.so.10", "libnvonnxparser.so.10", "libnvinfer_plugin.so.10")
    assert tensorrt_fault(build) is None
    driver = Fault("no NVIDIA driver", "install the NVIDIA driver")
    monkeypatch.setattr(tensorrt_libraries, "cuda_fault", lambda _ort: driver)
    assert tensorrt_fault(build) is driver


def test_libraries_of_the_package_of_pip_are_loaded_from_there(build: Any, monkeypatch: Any, tmp_path: Path) -> None:
    folder = tmp_path / "tensorrt_libs"
    folder.mkdir()
    (folder / "libnvinfer.so.10").touch()
    found = SimpleNamespace(submodule_search_locations=[str(folder)])
    monkeypatch.setattr(tensorrt_libraries, "find_spec", lambda _name: found)
    asked = present(monkeypatch)
    preload_tensorrt(build)
    assert asked == [str(folder / "libnvinfer.so.10")]


@pytest.mark.parametrize(("number", "version"), [(100904, "10.9.4"), (101300, "10.13.0"), (8601, "8.6.1")])
def test_the_version_is_that_of_what_is_loaded(build: Any, monkeypatch: Any, number: int, version: str) -> None:
    present(monkeypatch, "libnvinfer.so.10", version=number)
    assert tensorrt_version(build) == version
    present(monkeypatch)
    assert tensorrt_version(build) is None


def test_cuda_stands_behind_it() -> None:
    assert [spec.name for spec in chain("tensorrt")] == ["tensorrt", "cuda"]
    assert session_providers("tensorrt", 1, exact=True)[1] == ("CUDAExecutionProvider", {"use_tf32": "0"})


def test_tf32_of_tensorrt_is_told_though_cuda_behind_it_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"TensorrtExecutionProvider": {}, "CUDAExecutionProvider": {"use_tf32": "0"}}
    session = SimpleNamespace(get_provider_options=lambda: options)
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    assert rounds_to_tf32(session) is True
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    assert rounds_to_tf32(session) is False


def test_doctor_names_the_build_that_has_it(cli: Callable[..., Result]) -> None:
    result = cli("doctor", "--provider", "tensorrt", "-q")
    assert result.exit_code == 4
    assert "provider tensorrt broken" in result.stderr
    assert 'pip install "bnfold[tensorrt]"' in result.stderr
    assert "check that nvidia-smi shows a GPU" in result.stderr


def test_doctor_names_the_library_that_is_missing(
    cli: Callable[..., Result], build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build with the provider whose session falls back, as ONNX Runtime's does where a library is missing."""
    import onnxruntime as ort

    names = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    real = ort.InferenceSession

    def opened(model: Any, sess_options: Any, **_more: Any) -> Any:
        try:
            sess_options.get_session_config_entry("session.disable_cpu_ep_fallback")
        except RuntimeError:  # not set
            return real(model, sess_options, providers=["CPUExecutionProvider"])
        raise RuntimeError("... but fallback to CPU EP has been explicitly disabled by the user.")

    monkeypatch.setattr(ort, "InferenceSession", opened)
    monkeypatch.setattr(ort, "get_available_providers", lambda: names)
    monkeypatch.setattr(ort, "preload_dlls", lambda **_options: None)
    monkeypatch.setattr(ort, "__file__", build.__file__)
    result = cli("doctor", "--provider", "tensorrt", "-q")
    assert result.exit_code == 4
    assert "libnvinfer.so.10, libnvonnxparser.so.10, libnvinfer_plugin.so.10 cannot be loaded" in result.stdout
    assert 'pip install "bnfold[tensorrt]"' in result.stderr


def test_the_record_asks_tensorrt_first() -> None:
    spec = provider_spec("tensorrt")
    assert (spec.ort_name, spec.device, spec.falls_back) == ("TensorrtExecutionProvider", "cuda", True)
    assert spec.graph_options == {"trt_cuda_graph_enable": "1"}
