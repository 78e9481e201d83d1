"""The account of every BatchNorm of the source."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bnfold.folding.choose import Choice
from bnfold.folding.gauge import Gauge
from bnfold.folding.relations import Parameters
from bnfold.folding.relations.affine import batchnorm_parameters
from bnfold.folding.units import Refusal, Site
from bnfold.graph.layers import layer_name
from bnfold.numerics.affine import Float64, batchnorm_affine
from bnfold.records import Ledger, LedgerEntry, Outcome

__all__ = ["Found", "account", "find_batchnorms", "takers"]


@dataclass(frozen=True)
class Found:
    """A BatchNorm of the source, under a name that no other has."""

    node: ir.Node
    name: str


def find_batchnorms(model: ir.Model) -> tuple[Found, ...]:
    """Every BatchNormalization node, those in subgraphs included, in the graph's order. One used twice is two."""
    nodes = [node for node in ir.traversal.RecursiveGraphIterator(model.graph) if node.op_type == "BatchNormalization"]
    seen: Counter[str] = Counter()
    found = []
    for node in nodes:
        name = layer_name(node)
        seen[name] += 1
        found.append(Found(node, name if seen[name] == 1 else f"{name}#{seen[name]}"))
    return tuple(found)


def account(
    found: tuple[Found, ...],
    graph: ir.Graph,
    choice: Choice,
    merged: dict[ir.Node, str],
    into: dict[ir.Node, tuple[str, ...]],
) -> Ledger:
    """One entry per BatchNorm; `merged` and `into` name the operators that took those that went."""
    vanished = {site.node for site in choice.vanished}
    refused = {site.node: reason for site, reason in choice.refused}
    entries = []
    for item in found:
        node = item.node
        outcome: Outcome
        reason = None
        parameters = batchnorm_parameters(node)
        if node in merged:
            outcome, into = "merged", {**into, node: (merged[node],)}
        elif node in vanished:
            outcome = "absorbed"
        elif node.graph is None:
            outcome = "removed"
        else:
            outcome = "kept"
            reason = refused.get(node) or _unasked(node, graph, parameters)
        entries.append(_entry(item, outcome, into.get(node, ()), reason, parameters))
    return Ledger(tuple(entries))


BatchNormParameters = tuple[Float64, Float64, Float64, Float64, float] | Refusal


def _entry(
    item: Found, outcome: Outcome, into: tuple[str, ...], reason: str | None, parameters: BatchNormParameters
) -> LedgerEntry:
    if isinstance(parameters, Refusal):
        return LedgerEntry(item.name, outcome, into, reason, np.nan, np.nan, 0)
    gamma, beta, mean, variance, epsilon = parameters
    scale, _ = batchnorm_affine(gamma, beta, mean, variance, epsilon)
    ratio = float(variance.min() / epsilon) if epsilon else np.inf
    return LedgerEntry(item.name, outcome, into, reason, float(np.abs(scale).max()), ratio, int(np.sum(scale == 0)))


def _unasked(node: ir.Node, graph: ir.Graph, parameters: BatchNormParameters) -> str:
    """Why a BatchNorm was never a site."""
    if node.graph is not graph:
        return "it stands in a subgraph"
    return parameters.reason if isinstance(parameters, Refusal) else "the rank of its input is unknown"


def takers(site: Site, plan: dict[ir.Node, Parameters], gauge: Gauge) -> tuple[str, ...]:
    """The operators whose parameters take a vanished site: upstream while x has new units, downstream while y has."""
    names: list[str] = []
    seen: set[ir.Value] = set()
    todo = [(site.x, True), (site.node.outputs[0], False)]
    while todo:
        value, upward = todo.pop()
        if value in seen or value not in gauge.units.ids or gauge.trivial(value):
            continue
        seen.add(value)
        nodes = [value.producer()] if upward else [use.node for use in value.uses()]
        for node in nodes:
            if node is None or node is site.node:
                continue
            if node in plan:
                names.append(layer_name(node))
            else:
                todo.extend((v, upward) for v in (node.inputs if upward else node.outputs) if v is not None)
    return tuple(dict.fromkeys(names))
