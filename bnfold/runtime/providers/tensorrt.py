"""NVIDIA's TensorRT (onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html), CUDA behind it.

It is part of `onnxruntime-gpu` and needs TensorRT's libraries besides CUDA's. Engines are built when a session is
opened, or at the first run where sizes are dynamic, which takes from seconds to minutes. The provider has no option
against TF32, which TensorRT uses by itself: NVIDIA_TF32_OVERRIDE=0 in the environment of the process turns it off
(docs.nvidia.com/deeplearning/tensorrt, "TF32").
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from bnfold.runtime.cuda_libraries import gpu_model, library_versions
from bnfold.runtime.providers.spec import ProviderSpec
from bnfold.runtime.tensorrt_libraries import preload_tensorrt, tensorrt_fault, tensorrt_version

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SPEC"]

TF32 = "NVIDIA_TF32_OVERRIDE"


def _rounds_to_tf32(_options: Mapping[str, str]) -> bool:
    return os.environ.get(TF32) != "0"


def _session_facts(ort: Any, options: Mapping[str, str]) -> dict[str, Any]:
    return {"tf32": _rounds_to_tf32(options), "tensorrt": tensorrt_version(ort), **library_versions(ort)}


SPEC = ProviderSpec(
    name="tensorrt",
    ort_name="TensorrtExecutionProvider",
    label="TensorRT",
    extra="tensorrt",
    device="cuda",
    channel_block=8,  # of the half-precision kernels, as on CUDA
    behind=("cuda",),
    prepare=preload_tensorrt,
    graph_options={"trt_cuda_graph_enable": "1"},
    tuned_options=({"trt_builder_optimization_level": "5"},),
    cpp="""\
Ort::TensorRTProviderOptions tensorrt;
tensorrt.Update({options});
options.AppendExecutionProvider_TensorRT_V2(*tensorrt);""",
    triton="gpu tensorrt",
    rounds_to_tf32=_rounds_to_tf32,
    fault=tensorrt_fault,
    own_words=("tensorrt", "nvinfer", "nvonnxparser", "cuda", "cudnn"),
    advice=", and check that nvidia-smi shows a GPU; --verbose prints the reason",
    device_facts=lambda: {"gpu": gpu_model()},
    session_facts=_session_facts,
)
