"""Branches that are always taken: what an `If` of a fixed condition computes, without the `If`.

An exporter, or a simplifier, may have put the branch in place of the node. Where a file cannot be proven node by node,
both graphs are read that way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onnx import helper

from bnfold.graph import operators as op
from bnfold.verification.certificate.nodes import bodies_of

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

__all__ = ["branch_of", "handed_out"]


def branch_of(node: NodeProto, *, condition: bool) -> tuple[str, GraphProto]:
    """The branch that is taken, and the name of its attribute."""
    wanted = "then_branch" if condition else "else_branch"
    return next((name, body) for name, body in bodies_of(node) if name == wanted)


def handed_out(node: NodeProto, body: GraphProto) -> list[NodeProto]:
    """Nodes that give the outputs of the body the names that the `If` writes."""
    pairs = zip(body.output, node.output, strict=True)
    return [helper.make_node(op.Identity, [value.name], [name]) for value, name in pairs if name]
