"""The graphs inside a graph: bodies of If, Loop and Scan."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

__all__ = ["captured", "held", "subgraphs"]


def held(node: ir.Node) -> Iterator[ir.Graph]:
    """The graphs that a node holds as attributes."""
    for attr in node.attributes.values():
        if attr.type == ir.AttributeType.GRAPH:
            yield attr.as_graph()
        elif attr.type == ir.AttributeType.GRAPHS:
            yield from attr.as_graphs()


def subgraphs(graph: ir.Graph) -> Iterator[ir.Graph]:
    """Every graph inside a graph, the innermost first."""
    for node in graph:
        for inner in held(node):
            yield from subgraphs(inner)
            yield inner


def captured(node: ir.Node) -> Iterator[ir.Value]:
    """Every value that the graphs held by a node read or give out, whoever owns it."""
    for inner in held(node):
        yield from (value for value in inner.outputs if value is not None)
        for each in ir.traversal.RecursiveGraphIterator(inner):
            yield from (value for value in each.inputs if value is not None)
