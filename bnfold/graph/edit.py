"""Edits that keep a graph valid."""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["bypass"]


def bypass(graph: ir.Graph, node: ir.Node) -> None:
    """Take a node `y = f(x)` out: whoever read y reads x. Names of graph outputs stay.

    An output that would become an input, or the same value as another output, stays apart from it by an Identity.
    """
    x, y = node.inputs[0], node.outputs[0]
    if x is None or x.const_value is not None:
        x = next(value for value in node.inputs if value is not None and value.const_value is None)
    for user, index in list(y.uses()):
        user.replace_input_with(index, x)
    if y.is_graph_output():
        if x.is_graph_input() or x.is_graph_output() or x.graph is not graph:
            identity = ir.node("Identity", [x], metadata_props=dict(node.metadata_props))
            out = identity.outputs[0]
            graph.insert_before(node, identity)
        else:
            out = x
        for k, output in enumerate(graph.outputs):
            if output is y:
                graph.outputs[k] = out
        out.shape, out.type = y.shape, y.type
        name, y.name = y.name, None
        out.name = name
    graph.remove(node, safe=True)
