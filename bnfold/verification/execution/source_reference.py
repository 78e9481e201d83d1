"""The reference of a source that has been loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.sources.types import Source, TorchSource
from bnfold.verification.execution.onnx_reference import OnnxReference
from bnfold.verification.execution.torch_reference import TorchReference

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from bnfold.verification.execution.reference import Reference

__all__ = ["reference_for"]


def reference_for(source: Source, plain: onnx.ModelProto | ir.Model | None) -> Reference:
    """The reference of a source.

    Args:
        source: as loaded.
        plain: its unfolded ONNX graph; with it the source's executions in float32 include the one in ONNX Runtime
            without graph optimizations. An `ir.Model` is turned into a `ModelProto`, which is a copy of the parameters,
            only while one is read. None reads the graph of an `OnnxSource`.
    """
    if isinstance(source, TorchSource):
        return TorchReference(source.runnable, [spec.name for spec in source.inputs], source.output_names, plain)
    return OnnxReference(plain if plain is not None else source.model)
