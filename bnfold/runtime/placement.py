"""Where a session's nodes run, and with which arithmetic: read from the session, not from what was asked for."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from bnfold.runtime.providers import known_providers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "computes",
    "is_ort_format",
    "node_counts",
    "node_providers",
    "output_types",
    "record_placement",
    "rounds_to_tf32",
]

FLOATS = ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16")  # onnx.TensorProto

# onnxruntime_session_options_config_keys.h; versions that do not know an entry ignore it.
_RECORD = "session.record_ep_graph_assignment_info"


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
    """Whether float32 may be rounded to TF32 in matrix products and convolutions; None where no provider has it.

    Of several providers with it, as TensorRT with CUDA behind it, one that may is enough.
    """
    options = session.get_provider_options()
    found = [
        spec.rounds_to_tf32(options[spec.ort_name])
        for spec in known_providers().values()
        if spec.rounds_to_tf32 is not None and spec.ort_name in options
    ]
    return any(found) if found else None


def computes(name: str, types: Mapping[str, set[str]]) -> bool:
    """Whether a node writes floating-point values, or is not known to write none.

    Arithmetic on shapes, in integers, belongs on the CPU: ONNX Runtime puts it there for speed.

    Args:
        name: of the node.
        types: from `output_types`.
    """
    return name not in types or not types[name].isdisjoint(FLOATS)


def is_ort_format(path: Path) -> bool:
    """Whether ONNX Runtime takes a file for one in its own format, which only it reads: it goes by the name."""
    return path.suffix == ".ort"


def output_types(model: Path | bytes) -> dict[str, set[str]]:
    """Name of a node -> element types of its outputs as onnx.TensorProto names them, where all of them are known."""
    import onnx
    import onnx.shape_inference

    if not isinstance(model, bytes) and is_ort_format(model):
        return {}
    proto = onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(model, load_external_data=False)
    graph = onnx.shape_inference.infer_shapes(proto).graph
    known = {info.name: info.type.tensor_type.elem_type for info in (*graph.value_info, *graph.output, *graph.input)}
    return {
        node.name: {onnx.TensorProto.DataType.Name(known[output]) for output in node.output if output}
        for node in graph.node
        if node.name and all(known.get(output) for output in node.output if output)
    }
