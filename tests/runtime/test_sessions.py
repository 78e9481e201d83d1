"""A session runs on the asked provider, or there is none."""

from __future__ import annotations

from dataclasses import replace
from inspect import signature
from typing import TYPE_CHECKING, Any
from unittest.mock import create_autospec

import numpy as np
import onnx.parser
import onnxruntime as ort
import pytest
from onnxruntime.capi.onnxruntime_inference_collection import check_and_normalize_provider_args

from bnfold.errors import BnfoldError, EnvironmentNotReady, InputRefused
from bnfold.runtime import available_threads, open_session, probe, run_probe, sessions
from bnfold.runtime.providers import Fault, known_providers, provider_spec
from bnfold.runtime.sessions import NO_FALLBACK

if TYPE_CHECKING:
    from pathlib import Path

DOUBLE = """
<ir_version: 8, opset_import: ["" : 17]>
double (float[N, 2] x) => (float[N, 2] y) <float two = {2.0}> { y = Mul (x, two) }
"""


@pytest.fixture(scope="module")
def model() -> bytes:
    content: bytes = onnx.parser.parse_model(DOUBLE).SerializeToString()
    return content


INFERENCE_SESSION = ort.InferenceSession


def forbids_fallback(options: Any) -> bool:
    """Whether session options hold the entry; ONNX Runtime raises where they do not."""
    try:
        return bool(options.get_session_config_entry(NO_FALLBACK) == "1")
    except RuntimeError:
        return False


class FakeSession:
    """Stands for a session of ONNX Runtime that loads `provider`, or fails with `error`."""

    provider = "CUDAExecutionProvider"
    error: Exception | None = None
    only_strict = False  # the error comes only where no node may fall back
    seen: dict[str, Any]

    def __init__(self, model: Any, **kwargs: Any) -> None:
        signature(INFERENCE_SESSION).bind(model, **kwargs)
        names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
        check_and_normalize_provider_args(kwargs["providers"], kwargs.get("provider_options"), names)
        type(self).seen = kwargs
        if self.error is not None and (forbids_fallback(kwargs["sess_options"]) or not self.only_strict):
            raise self.error

    def get_providers(self) -> list[str]:
        return [self.provider, "CPUExecutionProvider"]


def lacking(monkeypatch: pytest.MonkeyPatch, fault: Fault | None) -> None:
    """Have CUDA say that this machine lacks something, or nothing."""
    spec = replace(provider_spec("cuda"), fault=lambda _ort: fault)
    monkeypatch.setitem(known_providers(), "cuda", spec)


@pytest.fixture
def cuda_build(monkeypatch: pytest.MonkeyPatch) -> type[FakeSession]:
    """ONNX Runtime as if built with CUDA, with sessions that can be told how to fail."""

    class Session(FakeSession):
        pass

    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "preload_dlls", create_autospec(ort.preload_dlls))
    monkeypatch.setattr(ort, "InferenceSession", Session)
    lacking(monkeypatch, None)  # this machine may lack everything
    return Session


@pytest.mark.parametrize("from_file", [True, False])
def test_bytes_and_files_run(model: bytes, from_file: bool, tmp_path: Path) -> None:
    path = tmp_path / "double.onnx"
    path.write_bytes(model)
    session = open_session(path if from_file else model)
    (answer,) = session.run(None, {"x": np.array([[1, -3]], np.float32)})
    np.testing.assert_array_equal(answer, [[2, -6]])
    assert session.get_providers()[0] == "CPUExecutionProvider"


def test_the_cpu_may_be_used_on_the_cpu(model: bytes) -> None:
    assert not forbids_fallback(open_session(model).get_session_options())


def test_options_reach_the_session(model: bytes) -> None:
    levels = ort.GraphOptimizationLevel
    default = open_session(model).get_session_options()
    assert default.intra_op_num_threads == available_threads()
    assert default.inter_op_num_threads == 1
    assert default.graph_optimization_level == levels.ORT_ENABLE_ALL
    plain = open_session(model, threads=1, optimized=False).get_session_options()
    assert plain.intra_op_num_threads == 1
    assert plain.graph_optimization_level == levels.ORT_DISABLE_ALL


def test_a_build_without_cuda(model: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(EnvironmentNotReady) as caught:
        open_session(model, provider="cuda")
    assert caught.value.exit_code == 4
    assert caught.value.found == "a build with CPUExecutionProvider"
    assert '&& pip install "bnfold[gpu]"' in str(caught.value)
    assert "nvidia-smi" in str(caught.value)


def test_cuda_asks_for_no_fallback(model: bytes, cuda_build: type[FakeSession]) -> None:
    open_session(model, provider="cuda")
    assert cuda_build.seen["enable_fallback"] == 0
    assert [name for name, _ in cuda_build.seen["providers"]] == ["CUDAExecutionProvider"]
    assert forbids_fallback(cuda_build.seen["sess_options"])


def test_a_silent_fallback_is_an_error(model: bytes, cuda_build: type[FakeSession]) -> None:
    cuda_build.provider = "CPUExecutionProvider"
    with pytest.raises(EnvironmentNotReady, match="fell back to CPUExecutionProvider"):
        open_session(model, provider="cuda")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("CUDA failure 35: CUDA driver version is insufficient", EnvironmentNotReady),
        ("Failed to load library libcudnn.so.9", EnvironmentNotReady),
        ("Protobuf parsing failed.", InputRefused),
        ("BFCArena: CUDA failure 2: out of memory", EnvironmentNotReady),
        (
            "This session cannot use the graph capture feature as requested by the user as all compute graph nodes "
            "have not been partitioned to the CUDAExecutionProvider",
            InputRefused,
        ),
    ],
)
def test_errors_on_cuda_are_sorted(
    message: str, expected: type[BnfoldError], model: bytes, cuda_build: type[FakeSession]
) -> None:
    cuda_build.error = RuntimeError(message)
    with pytest.raises(expected) as caught:
        open_session(model, provider="cuda")
    assert caught.value.remedy is not None


@pytest.mark.parametrize(
    ("loaded", "expected", "says"),
    [
        ("CUDAExecutionProvider", InputRefused, "some nodes do not run on CUDA"),
        ("CPUExecutionProvider", EnvironmentNotReady, "found a CUDA build that loads no CUDA here"),
    ],
)
def test_nodes_that_fell_back_and_a_provider_that_did_not_load_are_told_apart(
    loaded: str, expected: type[BnfoldError], says: str, model: bytes, cuda_build: type[FakeSession]
) -> None:
    cuda_build.provider = loaded
    cuda_build.error = RuntimeError("... but fallback to CPU EP has been explicitly disabled by the user.")
    cuda_build.only_strict = True
    with pytest.raises(expected, match=says):
        open_session(model, provider="cuda")


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [
        (
            Fault("no NVIDIA driver", "install the NVIDIA driver"),
            "install the NVIDIA driver, or use --provider cpu",
        ),
        (Fault("libcublas.so.13 cannot be loaded", "", reinstall=True), 'pip install "bnfold[gpu]"'),
    ],
)
def test_what_the_machine_lacks_is_said(
    fault: Fault, remedy: str, model: bytes, cuda_build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking(monkeypatch, fault)
    cuda_build.provider = "CPUExecutionProvider"
    for error in (None, RuntimeError("CUDA failure 100: no CUDA-capable device")):  # it falls back, or raises
        cuda_build.error = error
        with pytest.raises(EnvironmentNotReady) as caught:
            open_session(model, provider="cuda", fallback=True)
        assert caught.value.found == fault.found
        assert remedy in str(caught.value)


@pytest.mark.parametrize(("kind", "refused"), [("Shape", False), ("Relu", True)])
def test_arithmetic_on_shapes_may_run_on_the_cpu_and_no_other(
    kind: str, refused: bool, cuda_build: type[FakeSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> net (float[N, 3] x) => (float[N, 3] y)'
        "{ s = Shape (x)\n r = Reshape (x, s)\n y = Relu (r) }"
    )
    for node in model.graph.node:
        node.name = f"node_{node.op_type}"
    cuda_build.error = RuntimeError("... but fallback to CPU EP has been explicitly disabled by the user.")
    cuda_build.only_strict = True
    placed = [
        (f"node_{op}", op, "CPUExecutionProvider" if op == kind else "CUDAExecutionProvider")
        for op in ("Shape", "Reshape", "Relu")
    ]
    monkeypatch.setattr(sessions, "node_providers", lambda _session: placed)
    if not refused:
        assert isinstance(open_session(model.SerializeToString(), provider="cuda", threads=2), cuda_build)
        options = cuda_build.seen["sess_options"]
        assert options.get_session_config_entry("session.record_ep_graph_assignment_info") == "1"
        assert options.intra_op_num_threads == 2
        return
    with pytest.raises(InputRefused, match=r"found node_Relu \(Relu\)"):
        open_session(model.SerializeToString(), provider="cuda")


def test_what_the_loader_prints_stays_off_standard_output(
    model: bytes, cuda_build: type[FakeSession], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def complain(**_options: Any) -> None:
        print("Failed to load libcudnn")  # noqa: T201  # as it does

    monkeypatch.setattr(ort.preload_dlls, "side_effect", complain)
    open_session(model, provider="cuda")
    assert capsys.readouterr().out == ""


def test_an_unknown_provider_is_a_programming_error(model: bytes) -> None:
    with pytest.raises(ValueError, match="expected 'cpu', 'cuda', 'openvino' or 'tensorrt'"):
        open_session(model, provider="cudda")


@pytest.mark.parametrize("content", [b"", b"no protobuf", None])
def test_damaged_and_missing_files(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "damaged.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputRefused) as caught:
        open_session(path)
    assert caught.value.exit_code == 3
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_probe_runs() -> None:
    assert run_probe("cpu") == "CPUExecutionProvider"


def test_the_probe_looks_at_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        def run(self, _names: None, feeds: dict[str, Any]) -> list[Any]:
            return [3 * feeds["x"]]

    monkeypatch.setattr(probe, "open_session", lambda *_args, **_kwargs: Wrong())
    with pytest.raises(EnvironmentNotReady, match="computes wrong values"):
        run_probe("cpu")
