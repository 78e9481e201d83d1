"""Where a session's nodes run, and with which arithmetic: read from the session, not from what was asked for."""

from __future__ import annotations

from collections import Counter
from typing import Any

__all__ = ["node_counts", "node_providers", "record_placement", "rounds_to_tf32"]

# onnxruntime_session_options_config_keys.h; versions that do not know an entry ignore it.
_RECORD = "session.record_ep_graph_assignment_info"
_CUDA = "CUDAExecutionProvider"


def record_placement(options: Any) -> None:
    """Have a session made with these `SessionOptions` remember which provider took each node."""
    options.add_session_config_entry(_RECORD, "1")


def node_counts(session: Any) -> dict[str, int] | None:
    """How many nodes each provider took; None where ONNX Runtime does not tell (before 1.24).

    Args:
        session: made with `record_placement`.
    """
    placed = node_providers(session)
    return None if placed is None else dict(sorted(Counter(provider for _, _, provider in placed).items()))


def node_providers(session: Any) -> list[tuple[str, str, str]] | None:
    """Name, operator and provider of each node; None where ONNX Runtime does not tell (before 1.24).

    Args:
        session: made with `record_placement`.
    """
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return None
    return [
        (str(node.name), str(node.op_type), str(part.ep_name))
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
    ]


def rounds_to_tf32(session: Any) -> bool | None:
    """Whether CUDA may round float32 to TF32 in matrix products and convolutions; None without CUDA.

    It may unless told otherwise (`use_tf32`, onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html).
    """
    options = session.get_provider_options().get(_CUDA)
    return None if options is None else str(options.get("use_tf32", "1")).lower() in {"1", "true"}
