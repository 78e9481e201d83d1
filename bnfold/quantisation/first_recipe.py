"""The recipe of a placement, before samples are seen: what has a range of its own, and the integers of a target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.quantisation.placement import integer_inputs
from bnfold.records.recipes import Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx_ir as ir

    from bnfold.quantisation.placement import Placement
    from bnfold.records.recipes import Activations, IntegerNode, Target, WeightScales

__all__ = ["ACTIVATIONS", "WEIGHT_LIMITS", "own_ranges", "recipe_of"]

WEIGHT_LIMITS: Mapping[str, int] = {"x86-vnni": 127, "arm": 127, "x86": 63}
"""Without VNNI an x86 processor adds two products u8 s8 in 16 bits: 2 * 255 * 63 < 2^15 < 2 * 255 * 127."""

ACTIVATIONS: Mapping[str, Activations] = {"x86-vnni": "u8", "x86": "u8", "arm": "s8"}
"""ARM multiplies s8 with s8 in one instruction (SDOT); x86 multiplies u8 with s8 (VPDPBUSD, PMADDUBSW)."""


UNSEEN = (-1.0, 1.0)


def recipe_of(graph: ir.Graph, placement: Placement, *, weights: WeightScales, target: Target) -> Recipe:
    """The recipe with ranges of -1 to 1, until they are observed.

    Args:
        graph: as `prepared` made it.
        placement: of its operators.
        weights: one scale for each output channel of a weight, or one for all.
        target: the processor that the file is for.
    """
    return Recipe(
        tuple(placement.nodes.values()),
        dict.fromkeys(own_ranges(graph, placement.nodes), UNSEEN),
        weights=weights,
        weight_limit=WEIGHT_LIMITS[target],
        activations=ACTIVATIONS[target],
        reasons=placement.reasons,
        others=placement.others,
    )


def own_ranges(graph: ir.Graph, nodes: Mapping[str, IntegerNode]) -> list[str]:
    """The values that have a scale of their own, in graph order: outputs of integer kernels, and inputs from float."""
    own = {plan.output for plan in nodes.values() if plan.grid == "own"}
    written = {plan.output for plan in nodes.values() if plan.grid != "none"}
    read = [str(value.name) for node in graph if str(node.name) in nodes for value in integer_inputs(node)]
    ordered = [str(value.name) for value in graph.inputs]
    ordered += [str(value.name) for node in graph for value in node.outputs]
    wanted = own | {name for name in read if name not in written}
    return [name for name in ordered if name in wanted]
