"""Edits that keep a graph valid."""

from __future__ import annotations

import onnx_ir as ir

from bnfold.graph import operators as op
from bnfold.graph.constants import constant

__all__ = ["bypass", "drop_unused_initializers"]


def bypass(graph: ir.Graph, node: ir.Node) -> tuple[ir.Value, ir.Value]:
    """Take a node `y = f(x)`, x its input that is no constant, out: whoever read y reads x. Names of outputs stay.

    An output that would become an input, or the same value as another output, stays apart from it by an Identity.

    Returns:
        x, and the value that is the output now: x or that of the Identity.
    """
    x, y = next(value for value in node.inputs if value is not None and constant(value) is None), node.outputs[0]
    out = x
    is_output = y.is_graph_output()
    if is_output:
        if x.is_graph_input() or x.is_graph_output() or x.graph is not graph:
            identity = ir.node(op.Identity, [x], metadata_props=dict(node.metadata_props))
            out = identity.outputs[0]
            graph.insert_before(node, identity)
        graph.outputs[:] = [out if output is y else output for output in graph.outputs]
        out.shape, out.type = y.shape, y.type
    y.replace_all_uses_with(x)
    if is_output:
        out.name, y.name = y.name, None
    graph.remove(node, safe=True)
    return x, out


def drop_unused_initializers(graph: ir.Graph) -> None:
    """Take out the initializers that nothing reads; `RemoveUnusedNodesPass` does that for the main graph alone."""
    for name, value in list(graph.initializers.items()):
        if not (value.uses() or value.is_graph_input() or value.is_graph_output()):
            del graph.initializers[name]
