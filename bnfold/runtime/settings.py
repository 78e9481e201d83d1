"""A session's settings, given to ONNX Runtime (onnxruntime_session_options_config_keys.h)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnfold.records.tuning import GraphLevel, SessionSettings

__all__ = ["apply_settings", "config_entries", "set_graph_level"]

INTRA_SPINNING, INTER_SPINNING = "session.intra_op.allow_spinning", "session.inter_op.allow_spinning"
DENORMALS = "session.set_denormal_as_zero"
DISABLED = "optimization.disable_specified_optimizers"


def config_entries(settings: SessionSettings) -> Mapping[str, str]:
    """The configuration entries of a session that differ from ONNX Runtime's defaults."""
    entries: dict[str, str] = {}
    if not settings.spinning:
        entries |= {INTRA_SPINNING: "0", INTER_SPINNING: "0"}
    if settings.denormals_as_zero:
        entries[DENORMALS] = "1"
    if settings.disabled_optimizers:
        entries[DISABLED] = ";".join(settings.disabled_optimizers)
    return entries


def set_graph_level(ort: Any, options: Any, level: GraphLevel) -> None:
    """Set the level in `SessionOptions` (onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations)."""
    name = "ORT_DISABLE_ALL" if level == "disabled" else f"ORT_ENABLE_{level.upper()}"
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, name)


def apply_settings(ort: Any, options: Any, settings: SessionSettings) -> None:
    """Set everything but provider, threads of one operator and graph level in `SessionOptions`.

    Args:
        ort: the imported package.
        options: changed in place.
        settings: what to set.
    """
    is_parallel = settings.execution_mode == "parallel"
    modes = ort.ExecutionMode
    options.execution_mode = modes.ORT_PARALLEL if is_parallel else modes.ORT_SEQUENTIAL
    options.inter_op_num_threads = settings.inter_op_threads if is_parallel else 1
    options.enable_cpu_mem_arena = settings.arena
    options.enable_mem_pattern = settings.mem_pattern
    for key, value in config_entries(settings).items():
        options.add_session_config_entry(key, value)
