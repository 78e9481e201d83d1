"""ONNX Runtime's own optimized files: optimized once, written, and loaded as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnfold.benchmarking.axes import set_opt_level
from bnfold.runtime import open_session, require_onnxruntime

if TYPE_CHECKING:
    from pathlib import Path

    from bnfold.benchmarking.axes import OptLevel
    from bnfold.runtime import Provider

__all__ = ["write_offline"]


def write_offline(file: Path, target: Path, level: OptLevel, provider: Provider = "cpu") -> None:
    """Write the file that ONNX Runtime makes of another one at a level; "all" fits this machine alone.

    onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations, "Online/Offline Mode".
    """
    ort = require_onnxruntime(provider)

    def configure(options: Any) -> None:
        set_opt_level(ort, options, level)
        options.optimized_model_filepath = str(target)

    open_session(file, provider=provider, threads=1, configure=configure, fallback=True)
