"""ONNX Runtime's own optimized files: optimized once, written, and loaded as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx

from bnfold.benchmarking.axes import set_opt_level
from bnfold.runtime import is_ort_format, open_session, require_onnxruntime
from bnfold.sources.external_data import external_tensors

if TYPE_CHECKING:
    from pathlib import Path

    from bnfold.benchmarking.axes import OptLevel
    from bnfold.runtime import Provider

__all__ = ["write_offline"]

EXTERNAL = "session.optimized_model_external_initializers_file_name"  # onnxruntime_session_options_config_keys.h


def write_offline(file: Path, target: Path, level: OptLevel, provider: Provider = "cpu") -> None:
    """Write the file that ONNX Runtime makes of another one at a level; "all" fits this machine alone.

    onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations, "Online/Offline Mode".
    """
    ort = require_onnxruntime(provider)
    weights_beside = not is_ort_format(file) and _has_weights_beside(file)

    def configure(options: Any) -> None:
        set_opt_level(ort, options, level)
        options.optimized_model_filepath = str(target)
        if weights_beside:  # else the new file would look for them in its own folder
            options.add_session_config_entry(EXTERNAL, f"{target.name}.data")

    open_session(file, provider=provider, threads=1, configure=configure, fallback=True)


def _has_weights_beside(file: Path) -> bool:
    return next(external_tensors(onnx.load(file, load_external_data=False)), None) is not None
