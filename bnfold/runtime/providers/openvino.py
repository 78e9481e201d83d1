"""OpenVINO inside ONNX Runtime (onnxruntime.ai/docs/execution-providers/OpenVINO-ExecutionProvider.html), on the CPU.

The package `onnxruntime-openvino` holds both and takes the place of `onnxruntime`. OpenVINO compiles the parts of a
graph that it takes; where a processor has the instructions, its own default may compute float32 in bfloat16.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.runtime.providers.spec import ProviderSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SPEC"]

LIBRARY = "libopenvino.so."  # and its version


def _options(threads: int) -> Mapping[str, str]:
    """The CPU, not whatever OpenVINO finds; and as many threads as the session has."""
    return {"device_type": "CPU", "num_of_threads": str(threads)}


def _session_facts(ort: Any, _options: Mapping[str, str]) -> dict[str, Any]:
    """The version of OpenVINO that lies in the package, None where it lies elsewhere."""
    folder = Path(ort.__file__).parent / "capi"
    versions = [file.name.removeprefix(LIBRARY) for file in sorted(folder.glob(f"{LIBRARY}*.*.*"))]
    return {"openvino": next(iter(versions), None)}


SPEC = ProviderSpec(
    name="openvino",
    ort_name="OpenVINOExecutionProvider",
    label="OpenVINO",
    extra="openvino",
    options=_options,
    exact_options={"precision": "FP32"},
    cpp="options.AppendExecutionProvider_OpenVINO_V2({options});",
    triton="cpu openvino",
    own_words=("libopenvino", "onnxruntime_providers_openvino"),
    advice=", in an environment of its own: it takes the place of the other builds",
    session_facts=_session_facts,
)
