"""ONNX Runtime's own optimized files: optimized once, written, and loaded as they are."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from bnfold.runtime import is_ort_format, open_session, require_onnxruntime
from bnfold.runtime.settings import set_graph_level
from bnfold.sources.external_data import external_tensors

if TYPE_CHECKING:
    from bnfold.benchmarking.axes import OptLevel
    from bnfold.records.tuning import SessionSettings
    from bnfold.runtime import Provider

__all__ = ["open_deployed", "write_offline"]

EXTERNAL = "session.optimized_model_external_initializers_file_name"  # onnxruntime_session_options_config_keys.h


def write_offline(
    file: Path, target: Path, level: OptLevel, provider: Provider = "cpu", settings: SessionSettings | None = None
) -> None:
    """Write the file that ONNX Runtime makes of another one at a level; "all" fits this machine alone.

    Where `settings` disable some of its optimizers, these leave the graph as it is.

    onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations, "Online/Offline Mode".
    """
    ort = require_onnxruntime(provider)
    weights_beside = not is_ort_format(file) and _has_weights_beside(file)

    def configure(options: Any) -> None:
        set_graph_level(ort, options, level)
        options.optimized_model_filepath = str(target)
        if weights_beside:  # else the new file would look for them in its own folder
            options.add_session_config_entry(EXTERNAL, f"{target.name}.data")

    open_session(file, provider=provider, threads=1, configure=configure, fallback=True, settings=settings)


def open_deployed(file: Path, settings: SessionSettings, *, threads: int | None = None) -> Any:
    """A session as settings say, on the provider alone; offline ones load the file that is written for them first.

    Args:
        file: an `.onnx` file.
        settings: of the session.
        threads: of one operator, None for those of the settings.

    Raises:
        EnvironmentNotReady: ONNX Runtime or the provider does not load.
        InputRefused: ONNX Runtime does not load the file, or not all of it on the provider.
    """
    ort = require_onnxruntime(settings.provider)
    with tempfile.TemporaryDirectory(prefix="bnfold-") as folder:
        loaded, level = file, settings.opt_level
        if settings.optimize == "offline":
            loaded, level = Path(folder) / "offline.onnx", "disabled"
            write_offline(file, loaded, settings.opt_level, settings.provider, settings)
        return open_session(
            loaded, provider=settings.provider, threads=threads or settings.threads, settings=settings,
            configure=partial(set_graph_level, ort, level=level),
        )  # fmt: skip


def _has_weights_beside(file: Path) -> bool:
    return next(external_tensors(onnx.load(file, load_external_data=False)), None) is not None
