"""Facts about single nodes: their attributes and bodies, and the types of known values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import onnx.defs
from onnx import AttributeProto, TensorProto, helper

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from onnx import GraphProto, NodeProto

__all__ = ["attributes_of", "bodies_of", "holds_graph", "meaning_of", "node_reads", "type_of"]


def node_reads(node: NodeProto) -> Iterator[str]:
    """What a node reads, and what its bodies read of the graphs around them."""
    yield from (name for name in node.input if name)
    for _, body in bodies_of(node):
        own = {value.name for value in (*body.input, *body.initializer)} | {
            n for each in body.node for n in each.output
        }
        inside = (name for each in body.node for name in node_reads(each))
        yield from (name for name in (*inside, *(value.name for value in body.output)) if name not in own)


def meaning_of(node: NodeProto, opsets: Mapping[str, int]) -> int:
    """The version that defined the operator last, up to the opset: the same one, the same meaning."""
    opset = opsets.get(node.domain, opsets.get("", 1) if node.domain == "ai.onnx" else 1)
    try:
        version: int = onnx.defs.get_schema(node.op_type, opset, node.domain).since_version
    except onnx.defs.SchemaError:
        return opset
    return version


def type_of(array: np.ndarray | None) -> int:
    """The element type of a known value, in the precision that shapes are inferred with; 0 for None."""
    if array is None:
        return 0
    return TensorProto.FLOAT if array.dtype.kind == "f" else int(helper.np_dtype_to_tensor_dtype(array.dtype))


def holds_graph(node: NodeProto) -> bool:
    """Whether a node has a body."""
    return any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in node.attribute)


def bodies_of(node: NodeProto) -> Iterator[tuple[str, GraphProto]]:
    """The bodies of a node, named as in `bnfold.records.Certificate`."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.name, attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from ((f"{attribute.name}{k}", graph) for k, graph in enumerate(attribute.graphs))


def attributes_of(node: NodeProto) -> tuple[bytes, ...]:
    """The attributes of a node in a form that can be compared; bodies by name alone."""
    found = []
    for attribute in sorted(node.attribute, key=lambda a: a.name):
        if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
            found.append(attribute.name.encode())
            continue
        bare = onnx.AttributeProto()
        bare.CopyFrom(attribute)
        bare.ClearField("doc_string")
        found.append(bare.SerializeToString(deterministic=True))
    return tuple(found)
