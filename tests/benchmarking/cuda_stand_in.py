"""ONNX Runtime as if it had a GPU: the CPU computes, and what CUDA would refuse is refused.

Arguments go through ONNX Runtime's own checks (`check_and_normalize_provider_args`, `OrtDevice.make`, the signatures of
the methods that are replaced); what only its CUDA provider knows is repeated here.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import create_autospec

import onnxruntime as ort
from onnxruntime.capi.onnxruntime_inference_collection import check_and_normalize_provider_args

from bnfold.runtime.sessions import NO_FALLBACK

if TYPE_CHECKING:
    import pytest

__all__ = ["CUDA", "CudaSession", "pretend_cuda"]

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"

# onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html: what the provider knows, with its defaults.
OPTIONS = {"device_id": "0", "cudnn_conv_algo_search": "EXHAUSTIVE", "enable_cuda_graph": "0", "use_tf32": "1"}
SEARCHES = {"EXHAUSTIVE", "HEURISTIC", "DEFAULT"}
REFUSED = (
    "This session cannot use the graph capture feature as requested by the user as all compute graph nodes have not "
    "been partitioned to the CUDAExecutionProvider"
)


class CudaBinding(ort.IOBinding):
    """A binding whose values are on the GPU, or so it says."""

    fixed = True  # whether all outputs keep their addresses

    def bind_output(self, name: str, device_type: str = "cpu", device_id: int = 0, *others: Any) -> None:
        ort.OrtDevice.make(device_type, device_id)
        assert not others
        self.fixed = False
        super().bind_output(name, "cpu", 0)


class CudaSession(ort.InferenceSession):
    """A session that runs on the CPU what it was asked to run on CUDA."""

    makes_graphs = True
    opened: list[dict[str, Any]]  # the provider options of each session on CUDA

    def __init__(
        self,
        path_or_bytes: Any,
        sess_options: Any = None,
        providers: Any = None,
        provider_options: Any = None,
        **more: Any,
    ) -> None:
        names, options = check_and_normalize_provider_args(providers, provider_options, [CUDA, CPU])
        self._asked = dict(zip(names, options, strict=True)).get(CUDA)
        if self._asked is not None:
            unknown = set(self._asked) - set(OPTIONS)
            if unknown or self._asked.get("cudnn_conv_algo_search", "DEFAULT") not in SEARCHES:
                raise RuntimeError(f"Unknown provider option: {self._asked}")
            self.opened.append(self._asked)
            sess_options.add_session_config_entry(NO_FALLBACK, "0")  # every node of ours is on CUDA
        super().__init__(path_or_bytes, sess_options, providers=[CPU], **more)
        self._replays = self._asked is not None and self._asked.get("enable_cuda_graph") == "1"
        self._addresses: tuple[int, ...] | None = None
        if self._replays and not self.makes_graphs:
            raise RuntimeError(REFUSED)

    def get_providers(self) -> list[str]:
        return [CPU] if self._asked is None else [CUDA, CPU]

    def get_provider_options(self) -> dict[str, dict[str, str]]:
        return {CPU: {}} if self._asked is None else {CUDA: {**OPTIONS, **self._asked}, CPU: {}}

    def get_provider_graph_assignment_info(self) -> list[Any]:
        parts = list(super().get_provider_graph_assignment_info())
        return parts if self._asked is None else [SimpleNamespace(ep_name=CUDA, get_nodes=p.get_nodes) for p in parts]

    def io_binding(self) -> ort.IOBinding:
        return super().io_binding() if self._asked is None else CudaBinding(self)

    def run(self, output_names: Any, input_feed: Any, run_options: Any = None) -> Any:
        if self._replays:
            raise RuntimeError("a CUDA graph replays bound addresses, and run binds none")
        return super().run(output_names, input_feed, run_options)

    def run_with_iobinding(self, iobinding: Any, run_options: Any = None) -> None:
        if self._replays and not iobinding.fixed:
            raise RuntimeError("an output of a CUDA graph has no fixed address")
        super().run_with_iobinding(iobinding, run_options)
        if self._replays:
            addresses = tuple(value.data_ptr() for value in iobinding.get_outputs())
            if self._addresses not in (None, addresses):
                raise RuntimeError("the graph was captured with other addresses")
            self._addresses = addresses


def pretend_cuda(monkeypatch: pytest.MonkeyPatch) -> type[CudaSession]:
    """Replace what asks for a GPU in `onnxruntime`; gives the class of the sessions."""

    class Session(CudaSession):
        opened: list[dict[str, Any]] = []  # noqa: RUF012

    from_numpy, from_shape = ort.OrtValue.ortvalue_from_numpy, ort.OrtValue.ortvalue_from_shape_and_type

    def on_the_cpu(make: Any) -> Any:
        def checked(*values: Any) -> Any:
            *values, device_type, device_id = values
            ort.OrtDevice.make(device_type, device_id)
            return make(*values, "cpu", 0)

        return staticmethod(checked)

    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(ort, "preload_dlls", create_autospec(ort.preload_dlls))
    monkeypatch.setattr(ort, "InferenceSession", Session)
    monkeypatch.setattr(ort.OrtValue, "ortvalue_from_numpy", on_the_cpu(from_numpy))
    monkeypatch.setattr(ort.OrtValue, "ortvalue_from_shape_and_type", on_the_cpu(from_shape))
    return Session
