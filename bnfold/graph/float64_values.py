"""What a float64 evaluation holds at a time: a parameter only while its operator runs, a value until its last reader.

A network of P parameters and values v_1, ..., v_n then takes max_k (sum of the values alive at node k) and the
largest parameter, not 8 P + sum_k |v_k| bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import onnx_ir as ir
    from onnx import GraphProto, NodeProto

__all__ = ["Parameters", "last_readers", "reads", "widened"]


def widened(value: np.ndarray) -> np.ndarray:
    """The array in float64 where it is of floating point, bfloat16 and the like included."""
    is_float = np.issubdtype(value.dtype, np.floating) or value.dtype.name == "bfloat16"
    return value.astype(np.float64) if is_float else value


class Parameters:
    """The initializers of a graph, each converted when it is asked for.

    The tensors are shared with the graph, which must not be changed meanwhile.

    Args:
        tensors: by name, as they are stored.
    """

    def __init__(self, tensors: Mapping[str, TensorProto | ir.TensorProtocol]) -> None:
        self._tensors = tensors

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> np.ndarray:
        """A new array, in float64 where it is of floating point."""
        tensor = self._tensors[name]
        return widened(numpy_helper.to_array(tensor) if isinstance(tensor, TensorProto) else tensor.numpy())


def reads(node: NodeProto) -> Iterator[str]:
    """The names that a node reads, those that its subgraphs may read of the graph around them included."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from _read_inside(graph)


def _read_inside(graph: GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield from reads(node)
    yield from (output.name for output in graph.output)


def last_readers(nodes: Sequence[NodeProto], kept: Iterable[str]) -> list[list[str]]:
    """For each node, the values that nobody reads after it, `kept` ones left out; its own unread outputs count."""
    last: dict[str, int] = {}
    for position, node in enumerate(nodes):
        for name in (*reads(node), *(output for output in node.output if output)):
            last[name] = position
    for name in kept:
        last.pop(name, None)
    dead: list[list[str]] = [[] for _ in nodes]
    for name, position in last.items():
        dead[position].append(name)
    return dead
