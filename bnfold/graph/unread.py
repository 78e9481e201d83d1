"""Inputs of a graph that no output depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

__all__ = ["drop_inputs", "unread_inputs"]


def unread_inputs(model: onnx.ModelProto) -> tuple[str, ...]:
    """The inputs from which no path leads to an output, in their order; those with a default value are not asked for.

    A node that holds graphs (If, Loop, Scan) reads what these read.
    """
    graph = model.graph
    producers = {name: node for node in graph.node for name in node.output if name}
    pending, needed = [value.name for value in graph.output], set[str]()
    while pending:
        name = pending.pop()
        if name in needed:
            continue
        needed.add(name)
        if name in producers:
            pending += _reads(producers[name])
    defaults = {tensor.name for tensor in graph.initializer}
    return tuple(value.name for value in graph.input if value.name not in needed | defaults)


def drop_inputs(model: onnx.ModelProto, names: tuple[str, ...]) -> None:
    """Take inputs that nothing reads off a graph, in place."""
    kept = [value for value in model.graph.input if value.name not in names]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            yield from (value.name for value in graph.output)
            for inner in graph.node:
                yield from _reads(inner)
