"""NVIDIA's GPUs (onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnfold.runtime.cuda_libraries import cuda_fault, gpu_model, library_versions, preload_cuda
from bnfold.runtime.providers.spec import ProviderSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SPEC"]

CHANNEL_BLOCK = 8  # of the half-precision kernels
NO_SEARCH = {"cudnn_conv_algo_search": "HEURISTIC"}
"""Takes cuDNN's quick word for the algorithm of a convolution; the default has cuDNN think longer in the first run, and
before ONNX Runtime 1.20 try them all."""


def _rounds_to_tf32(options: Mapping[str, str]) -> bool:
    """Matrix products and convolutions may, unless told otherwise."""
    return str(options.get("use_tf32", "1")).lower() in {"1", "true"}


def _session_facts(ort: Any, options: Mapping[str, str]) -> dict[str, Any]:
    return {"tf32": _rounds_to_tf32(options), **library_versions(ort), "build_info": ort.get_build_info()}


SPEC = ProviderSpec(
    name="cuda",
    ort_name="CUDAExecutionProvider",
    label="CUDA",
    extra="gpu",
    device="cuda",
    channel_block=CHANNEL_BLOCK,
    prepare=preload_cuda,
    exact_options={"use_tf32": "0"},
    graph_options={"enable_cuda_graph": "1"},
    unsearched_options=NO_SEARCH,
    tf32_options={"use_tf32": "1"},
    tuned_options=(NO_SEARCH, {"cudnn_conv_algo_search": "DEFAULT"}, {"prefer_nhwc": "1"}),
    cpp="""\
Ort::CUDAProviderOptions cuda;
cuda.Update({options});
options.AppendExecutionProvider_CUDA_V2(*cuda);""",
    wheel="onnxruntime-gpu[cuda,cudnn]==1.32.0",
    triton="gpu cuda",
    rounds_to_tf32=_rounds_to_tf32,
    fault=cuda_fault,
    own_words=("cuda", "cudnn"),
    advice=", and check that nvidia-smi shows a GPU; --verbose prints the reason",
    device_facts=lambda: {"gpu": gpu_model()},
    session_facts=_session_facts,
)
