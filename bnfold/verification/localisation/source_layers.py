"""The user's names for what a comparison of graphs suspects, and the part of the source that it stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from bnfold.graph.layers import layer_name
from bnfold.graph.operators import Trait, having, kind_of
from bnfold.records import Departure

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx
    from onnx import NodeProto

    from bnfold.verification.localisation.graph_walk import Suspect, Walk

__all__ = ["Layers", "Region", "blamed"]

_AFFINE = having(Trait.AFFINE)
_LINEAR = having(Trait.LINEAR)


class Region:
    """Nodes of the unfolded graph in their order, the values they read from outside, and the one they write.

    Args:
        nodes: in topological order.
        output: the name of the value that leaves.
    """

    def __init__(self, nodes: Sequence[ir.Node], output: str) -> None:
        self.nodes = tuple(nodes)
        self.output = output
        written = {value.name for node in nodes for value in node.outputs}
        reads = [v for node in nodes for v in node.inputs if v is not None and v.name not in written and not _stored(v)]
        self.reads = tuple(dict.fromkeys(value.name for value in reads if value.name))

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of its layers, each once."""
        return tuple(dict.fromkeys(layer_name(node) for node in self.nodes))


class Layers:
    """The layers of the source, by the values that its unfolded graph writes.

    Args:
        plain: the unfolded graph, with the names that its exporter wrote.
    """

    def __init__(self, plain: onnx.ModelProto) -> None:
        self._model = ir.from_proto(plain)
        self._values = {value.name: value for node in self._model.graph for value in node.outputs if value.name}

    def departure(self, suspect: Suspect, walk: Walk, *, compared_with: str) -> Departure:
        """The facts for the user."""
        node, region = blamed(suspect, walk), self.region(suspect, walk)
        return Departure(
            layer=_layer(node, region, walk.other.writers.get(suspect.counterpart)),
            operator=node.op_type,
            value=node.output[0],
            error=suspect.error,
            inputs_error=suspect.inputs_error,
            compared_with=compared_with,
            source_layers=region.layers if region else (),
        )

    def region(self, suspect: Suspect, walk: Walk) -> Region | None:
        """What the source computes between values that the file has too: a convolution and its BatchNorm, say.

        None where the value is not one of the source's.
        """
        value = self._values.get(suspect.counterpart) or self._values.get(suspect.value) or self._behind(suspect, walk)
        if value is None:
            return None
        kept = {*walk.states, *(state.counterpart for state in walk.states.values())}
        inside = [value]
        while (after := _vanished_reader(inside[-1])) is not None and after.name not in kept:
            inside.append(after)
        nodes: set[ir.Node] = set()
        todo = [inside[-1]]
        while todo:
            node = todo.pop().producer()
            if node is None or node in nodes:
                continue
            nodes.add(node)
            todo += [v for v in node.inputs if v is not None and (v in inside or v.name not in kept)]
        return Region([node for node in self._model.graph if node in nodes], inside[-1].name or "")

    def _behind(self, suspect: Suspect, walk: Walk) -> ir.Value | None:
        """The source's first value behind one that only the other graph has: a merged convolution's, say."""
        known = {suspect.counterpart}
        for node in walk.other.nodes:
            if known & set(walk.other.reads(node)):
                for name in node.output:
                    if name in self._values:
                        return self._values[name]
                    known.add(name)
        return None


def blamed(suspect: Suspect, walk: Walk) -> NodeProto:
    """The node that is named: the first of the suspects that has parameters, else the one whose value diverges."""
    return next((node for node in suspect.region if walk.file.parameters(node)), suspect.node)


def _layer(node: NodeProto, region: Region | None, counterpart: NodeProto | None) -> str:
    """The layer of the source with parameters that has the node's operator, or is linear; else what the graphs say."""
    nodes = region.nodes if region else ()
    trained = [other for other in nodes if any(v is not None and _stored(v) for v in other.inputs)]
    alike = [other for other in trained if other.op_type == node.op_type]
    linear = [other for other in trained if kind_of(other) in _LINEAR]
    for some in (alike, linear, trained, nodes):
        if some:
            return layer_name(some[-1])
    return layer_name(ir.serde.deserialize_node(counterpart if counterpart is not None else node))


def _vanished_reader(value: ir.Value) -> ir.Value | None:
    """What the value's one reader makes of it, if that is an affine operator with stored parameters."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output() or kind_of(uses[0].node) not in _AFFINE:
        return None
    node = uses[0].node
    others = [v for v in node.inputs if v is not None and v is not value]
    return node.outputs[0] if all(map(_stored, others)) else None


def _stored(value: ir.Value) -> bool:
    return value.const_value is not None
