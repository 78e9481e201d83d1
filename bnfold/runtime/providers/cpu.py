"""ONNX Runtime's own kernels for the CPU: they take every operator, and need nothing but ONNX Runtime."""

from __future__ import annotations

from bnfold.runtime.providers.spec import ProviderSpec

__all__ = ["SPEC"]

SPEC = ProviderSpec(
    name="cpu",
    ort_name="CPUExecutionProvider",
    label="the CPU",
    extra="cpu",
    wheel="onnxruntime==1.32.0",
    ones_limit=120,  # between 96 and 144 on one thread (docs/preprocessing.md)
    falls_back=False,  # it is what others fall back to
)
