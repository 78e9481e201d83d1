"""Collect the relations of a whole graph."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from bnfold.folding.relations import RULES, Kind, Rule
from bnfold.folding.units import Deviations, Refusal, Units, holder
from bnfold.graph.attempts import Failure, attempted
from bnfold.graph.constants import is_float
from bnfold.graph.layers import layer_name
from bnfold.graph.operators import Trait, kind_of
from bnfold.graph.subgraphs import captured
from bnfold.records.causes import Cause

__all__ = ["part_of", "relate_graph"]


def relate_graph(
    graph: ir.Graph,
    failed: Mapping[ir.Node, Failure] | None = None,
    whole: Mapping[ir.Node, str] | None = None,
    deviations: Deviations | None = None,
) -> Units:
    """Give every float value of the graph its ids, in topological order, and collect the relations between them.

    Pinned: inputs, outputs, what a subgraph captures, and the neighbourhood of every operator without a rule, or whose
    rule fails.

    Args:
        graph: unchanged, but for shapes that follow from a rule.
        failed: nodes whose parameters could not be computed before; they are pinned.
        whole: nodes that stay as they are, and what they are part of; they are pinned.
        deviations: see `Units`; it goes on being filled when the units are applied.
    """
    units = Units() if deviations is None else Units(deviations=deviations)
    for node in graph:
        _pin_captured(node, units)
        _relate_node(node, units, (failed or {}).get(node), (whole or {}).get(node))
    for output in graph.outputs:
        if output in units.ids:
            units.pin_output(output)
    return units


def _relate_node(node: ir.Node, units: Units, failure: Failure | None, whole: str | None) -> None:
    rule = RULES.get(kind_of(node))
    # Of a curve, f(a x) = b f(x) + c with an a of each channel's own holds for |a| = 1 only: no rule can say otherwise.
    why: Cause | Refusal = Cause.NONLINEAR if kind_of(node).has(Trait.CURVED) else Cause.NO_RULE
    if rule is not None and whole is not None:
        why = part_of(whole)
    elif rule is not None:
        outcome = _related(node, rule, units) if failure is None else failure.refusal
        if not isinstance(outcome, Refusal):
            _note_uses(node, rule, outcome or rule.kind, units)
            return
        units.refused[node] = why = outcome
    for value in node.inputs:
        if value in units.ids and value is not None:
            units.pin(units.of(value), node, why)
            units.use(units.of(value))
    for value in node.outputs:
        if is_float(value):
            units.ids.pop(value, None)
            units.of(value)
            units.unruled[value] = holder(node, why)


def _related(node: ir.Node, rule: Rule, units: Units) -> Refusal | Kind | None:
    """What the rule says; where it raises, all that it had tied is taken back, and it is a refusal."""
    if any(value is not None and value.shape is None for value in node.inputs):
        return Refusal(Cause.UNKNOWN_SHAPE, "input")
    mark = units.mark()
    outcome = attempted(f"the rule for {node.op_type}", f"`{layer_name(node)}`", lambda: rule.relate(node, units))
    if isinstance(outcome, Failure):
        units.take_back(mark)
        return outcome.refusal
    return outcome


def part_of(kernel: str) -> Refusal:
    """Why a constant stays that a runtime looks for, or whose operator it needs."""
    return Refusal(Cause.FUSED_KERNEL, found=kernel)


def _note_uses(node: ir.Node, rule: Rule, kind: Kind, units: Units) -> None:
    x, y = node.inputs[0], node.outputs[0]
    if kind == "linear" and x is not None:
        units.readers.append((units.of(x).ravel(), node))
    picks = kind == "carry" and x in units.ids  # a Gather of data, not of an embedding's table; a MatMul of data
    if kind != "affine" and rule.rewrite is not None and not picks:
        units.writers.append((units.of(y).ravel(), node))
    if kind == "other":
        for value in node.inputs:
            if value in units.ids and value is not None:
                units.use(units.of(value))


def _pin_captured(node: ir.Node, units: Units) -> None:
    """Values of this graph that a subgraph of `node` reads keep their units."""
    for value in captured(node):
        if value in units.ids:
            units.pin(units.of(value), node, Cause.CAPTURED)
            units.use(units.of(value))
