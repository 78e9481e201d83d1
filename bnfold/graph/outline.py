"""The nodes of a graph as records: what each is called, whose module it is of, and what it reads."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import onnx_ir as ir

from bnfold.graph import operators as op
from bnfold.graph.inlined import inline_functions
from bnfold.graph.layers import layer_name, parameter_layer, scope_of
from bnfold.graph.operators import kind_of
from bnfold.graph.subgraphs import held
from bnfold.records.network import GraphNodes, NetworkNode, module_path

__all__ = ["batchnorm_names", "module_of", "outline"]

_SHAPES = frozenset({op.Shape, op.Size})  # what they give depends on no value
_COUNTED = re.compile(r"_\d+$")


def batchnorm_names(model: ir.Model) -> dict[ir.Node, str]:
    """Every BatchNormalization node, those in subgraphs included, in the graph's order, with a name no other one has.

    That is its layer; one used twice is two, the second `LAYER#2`.
    """
    seen: Counter[str] = Counter()
    names = {}
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        if kind_of(node) == op.BatchNormalization:
            name = layer_name(node)
            seen[name] += 1
            names[node] = name if seen[name] == 1 else f"{name}#{seen[name]}"
    return names


def module_of(node: ir.Node) -> str:
    """The path of the module that a node is of, empty for the network itself.

    The scopes that `torch.onnx.export` writes say it; in their absence a name `MODULE/OPERATOR`, which our own files
    have and those of older exporters; else the names of the parameters; else a name that is more than an operator's.
    """
    scope = scope_of(node)
    if scope is not None:
        return scope
    module, _, last = (node.name or "").rpartition("/")
    operator = _COUNTED.sub("", last) == node.op_type
    if operator and module:
        return module_path(module)
    return module_path(parameter_layer(node)) or ("" if operator else module_path(node.name or ""))


def outline(model: ir.Model, *, is_source: bool) -> GraphNodes:
    """The nodes of a model that depend on values of its inputs, and that its outputs depend on. It stays as it is.

    Arithmetic on shapes is not among them; BatchNorms that no output depends on are. A node that holds subgraphs reads
    what these give.

    Args:
        model: what to look at.
        is_source: whether its BatchNorms are those of a ledger, and called as there.
    """
    if model.functions:
        model = model.clone()
        inline_functions(model)
    batchnorms = batchnorm_names(model) if is_source else {}
    initialized = set(model.graph.initializers.values())
    inputs = [value for value in model.graph.inputs if value not in initialized]
    names = _Names()
    written: dict[ir.Value, str] = {value: names.new(value.name or "input") for value in inputs}
    nodes = []
    for node in _inside_out(model.graph):
        reads = tuple(dict.fromkeys(written[value] for value in _read(node) if value in written))
        if kind_of(node) in _SHAPES or (not reads and _is_constant(node, model.graph)):
            continue
        name = names.new(node.name or node.op_type)
        written |= dict.fromkeys(node.outputs, name)
        layer, parameters = module_of(node), module_path(parameter_layer(node)) or None
        other = None if parameters == layer else parameters
        nodes.append(NetworkNode(name, node.op_type, layer, reads, other, batchnorms.get(node)))
    outputs = {str(value.name): written[value] for value in model.graph.outputs if value in written}
    return GraphNodes(tuple(written[value] for value in inputs), _in_use(nodes, outputs.values()), outputs)


def _in_use(nodes: Sequence[NetworkNode], outputs: Iterable[str]) -> tuple[NetworkNode, ...]:
    """The nodes that outputs or BatchNorms depend on."""
    needed = {*outputs, *(node.name for node in nodes if node.batchnorm is not None)}
    for node in reversed(nodes):
        if node.name in needed:
            needed |= set(node.reads)
    return tuple(node for node in nodes if node.name in needed)


class _Names:
    """Names that are given once: the second of a kind is `NAME#2`."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._counts: Counter[str] = Counter()

    def new(self, name: str) -> str:
        found = name
        while found in self._taken:
            self._counts[name] += 1
            found = f"{name}#{self._counts[name] + 1}"
        self._taken.add(found)
        return found


def _inside_out(graph: ir.Graph) -> Iterator[ir.Node]:
    """Every node, those of its subgraphs in front of it: it reads what they give."""
    for node in graph:
        for inner in held(node):
            yield from _inside_out(inner)
        yield node


def _read(node: ir.Node) -> Iterator[ir.Value]:
    yield from (value for value in node.inputs if value is not None)
    for inner in held(node):
        yield from inner.outputs


def _is_constant(node: ir.Node, graph: ir.Graph) -> bool:
    """Whether a node that reads no data gives the same every time; in a subgraph it is part of a choice."""
    return kind_of(node) == op.Constant or (node.graph is graph and any(value is not None for value in node.inputs))
