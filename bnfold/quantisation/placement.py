"""Which operators are computed in integers, and which of their values have a scale of their own.

Layers with weights are computed in integers where they can be. Additions and concatenations are where every value that
they join is stored in integers anyway, pools and what only moves elements where they stand behind integers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx_ir as ir

from bnfold.graph import operators as op
from bnfold.graph.operators import kind_of
from bnfold.quantisation.operators import (
    CARRIERS,
    JOINS,
    LAYERS,
    POOLS,
    WEIGHTED,
    activation_of,
    why_float,
)
from bnfold.records.recipes import IntegerNode, PrecisionReason

__all__ = ["WRITE_FLOAT", "Placement", "integer_inputs", "output_of", "place"]

WRITE_FLOAT = WEIGHTED - {op.Conv}  # and integers too: as their readers ask


class Placement:
    """The operators in integers, in graph order, and why each other layer is not.

    Attributes:
        nodes: by the name of their node.
        reasons: by the name of each other Conv, Gemm, MatMul and Add.
        others: by the name of each other operator on floats.
    """

    def __init__(
        self,
        nodes: Mapping[str, IntegerNode],
        reasons: Mapping[str, PrecisionReason],
        others: Mapping[str, PrecisionReason],
    ) -> None:
        self.nodes = dict(nodes)
        self.reasons = dict(reasons)
        self.others = dict(others)


def place(graph: ir.Graph, kept: Mapping[str, PrecisionReason] | None = None) -> Placement:
    """Decide what is computed in integers.

    Args:
        graph: as `prepared` made it; every node has a name.
        kept: the names of nodes that stay float, and why.
    """
    kept = kept or {}
    reasons: dict[ir.Node, PrecisionReason] = {}
    for node in graph:
        reason = kept.get(str(node.name)) or why_float(node) or _writes_output(node) or _is_captured(node, graph)
        if reason is not None:
            reasons[node] = reason
    chosen = {node for node in graph if node not in reasons}
    while True:
        alone = {node for node in chosen if kind_of(node) not in WEIGHTED and not _among_integers(node, chosen)}
        if not alone:
            break
        chosen -= alone
        reasons.update(dict.fromkeys(alone, "float_neighbours"))
    nodes = {str(node.name): _integer_node(node, chosen) for node in graph if node in chosen}
    absorbed = {node.activation for node in nodes.values()}
    layers, others = {}, {}
    for node in graph:
        if node in reasons and node.name not in absorbed:
            if kind_of(node) in LAYERS:
                layers[str(node.name)] = reasons[node]
            elif node.outputs[0].dtype in (ir.DataType.FLOAT, None):
                others[str(node.name)] = reasons[node]
    return Placement(nodes, layers, others)


def integer_inputs(node: ir.Node) -> list[ir.Value]:
    """The values that an integer kernel reads as integers."""
    values = node.inputs if kind_of(node) in JOINS else node.inputs[:1]
    return [value for value in values if value is not None]


def output_of(node: ir.Node) -> ir.Value:
    """What a layer writes, behind the activation that it takes in."""
    activation = activation_of(node) if kind_of(node) in WEIGHTED | JOINS else None
    return (activation or node).outputs[0]


def _writes_output(node: ir.Node) -> PrecisionReason | None:
    """Outputs stay float: only a kernel that writes float may end in one, through whatever moves elements."""
    if kind_of(node) in WRITE_FLOAT:
        fused = _is_fused_in_float(node) and _reaches_output(output_of(node))
        return "graph_output" if fused else None
    return "graph_output" if _reaches_output(output_of(node)) else None


def _is_captured(node: ir.Node, graph: ir.Graph) -> PrecisionReason | None:
    """What a subgraph reads stays as it is."""
    values = (node.outputs[0], output_of(node))
    return "no_kernel" if any(use.node.graph is not graph for value in values for use in value.uses()) else None


def _reaches_output(value: ir.Value) -> bool:
    if value.is_graph_output():
        return True
    return any(
        kind_of(use.node) in CARRIERS and use.idx == 0 and _reaches_output(use.node.outputs[0]) for use in value.uses()
    )


def _among_integers(node: ir.Node, chosen: Collection[ir.Node]) -> bool:
    """Whether what a join, a pool or a carrier reads is there as integers anyway, and someone reads its integers."""
    kind = kind_of(node)
    stored = [_is_stored(value, chosen) for value in integer_inputs(node)]
    if not all(stored):
        return False
    if kind in POOLS or kind == op.MaxPool:
        return True
    return any(_reads_integers(use.node, use.idx, chosen) for use in output_of(node).uses())


def _is_stored(value: ir.Value, chosen: Collection[ir.Node]) -> bool:
    """Whether an integer kernel writes a value."""
    producer = value.producer()
    if producer is None:
        return False
    if producer in chosen:
        return output_of(producer) is value and _has_grid(producer, chosen)
    behind = producer.inputs[0].producer() if producer.inputs and producer.inputs[0] is not None else None
    return behind is not None and behind in chosen and output_of(behind) is value and _has_grid(behind, chosen)


def _reads_integers(node: ir.Node, index: int, chosen: Collection[ir.Node]) -> bool:
    return node in chosen and (index == 0 or kind_of(node) in JOINS)


def _has_grid(node: ir.Node, chosen: Collection[ir.Node]) -> bool:
    """Whether an integer kernel writes integers: a Gemm or MatMul that no one reads as such writes float."""
    if kind_of(node) not in WRITE_FLOAT:
        return True
    y = output_of(node)
    if _reaches_output(y):
        return False
    return _is_fused_in_float(node) or any(_reads_integers(use.node, use.idx, chosen) for use in y.uses())


def _is_fused_in_float(node: ir.Node) -> bool:
    """Whether ONNX Runtime would fuse a Gemm that writes float with the Relu or Clip behind it, and miss its integers.

    Such a Gemm writes integers, whose range stands for the activation, or stays float.
    """
    return kind_of(node) == op.Gemm and activation_of(node) is not None


def _integer_node(node: ir.Node, chosen: Collection[ir.Node]) -> IntegerNode:
    kind = kind_of(node)
    if kind in CARRIERS:
        return IntegerNode(str(node.name), kind, str(node.outputs[0].name), grid="input")
    if not _has_grid(node, chosen):
        return IntegerNode(str(node.name), kind, str(node.outputs[0].name), grid="none")
    activation = activation_of(node) if kind in WEIGHTED | JOINS else None
    name = None if activation is None else str(activation.name)
    return IntegerNode(str(node.name), kind, str(output_of(node).name), name)
