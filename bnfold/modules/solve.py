"""The units of a module's tensors: chosen on its exported graph, as far as its parameters can take them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from bnfold.folding.apply import apply_choice, plan_parameters
from bnfold.folding.choose import Choice, choose
from bnfold.folding.compose import compose_batchnorms, restore_digits
from bnfold.folding.found import Found, find_batchnorms
from bnfold.folding.ledger import Fate, account
from bnfold.folding.provenance import begin, certify
from bnfold.folding.ranges import beyond_range
from bnfold.folding.relate import relate_graph
from bnfold.folding.relations import Rewrite
from bnfold.folding.relations.affine import batchnorm_parameters
from bnfold.folding.takers import Takers
from bnfold.graph import operators as op
from bnfold.graph.canonical import canonicalise
from bnfold.graph.constants import attribute, float64_constant, round_constants, unrounded
from bnfold.graph.inlined import inline_functions
from bnfold.graph.operators import kind_of
from bnfold.modules.elements import elements_of
from bnfold.modules.holding import restrict
from bnfold.modules.slots import Slots, scope_of
from bnfold.modules.writing import Writing
from bnfold.numerics.affine import Float64
from bnfold.records.causes import Cause, Refusal, Stays

if TYPE_CHECKING:
    from bnfold.folding.units import Units
    from bnfold.modules.places import Places
    from bnfold.records import Ledger

__all__ = ["Solution", "solve"]

_EPSILON = 1e-5  # of ONNX where the attribute is absent
_VARIANCE = 4  # the input of a BatchNormalization
_INSIDE = Fate("kept", stays=Refusal(Cause.NO_PARAMETER, "scope"))


@dataclass(frozen=True)
class Solution:
    """What a module's parameters become, and the account of its BatchNorms, with the certificate.

    `variances` hold, by name, what the float32 that ONNX has for epsilon lacks.
    """

    writing: Writing
    ledger: Ledger
    variances: Mapping[str, Float64]


def solve(model: ir.Model, places: Places) -> Solution:
    """Choose which BatchNorms of a module vanish, without merging branches or removing channels.

    Args:
        model: the module's graph as it was exported, every parameter under its own name; folded in place.
        places: of the module.

    Raises:
        InputRefused: a BatchNorm has a negative or non-finite variance.
    """
    inline_functions(model)
    names = [name for name, value in model.graph.initializers.items() if _is_place(places, name, value)]
    elements = elements_of(model, names)
    composed = compose_batchnorms(model)
    found = find_batchnorms(model)
    canonicalise(model)
    restore_digits(composed)
    variances = _restore_epsilon(found, places)
    begin(model)
    facts = {item.node: batchnorm_parameters(item.node) for item in found}
    slots = Slots(model.graph, elements, places)
    units, choice, plan, takers, writing = _settled(model.graph, slots)
    fates = {
        node: Fate("kept", stays=why) for node, why in units.refused.items() if kind_of(node) == op.BatchNormalization
    }
    fates |= {item.node: _INSIDE for item in found if item.node.graph is not model.graph}
    fates |= {site.node: Fate("absorbed", takers.names(site)) for site in choice.vanished}
    fates |= {site.node: Fate("kept", stays=stays) for site, stays in choice.refused}
    apply_choice(model.graph, choice, plan)
    digits = unrounded(model.graph)
    beyond = round_constants(model.graph)
    passes.RemoveUnusedNodesPass()(model)
    passes.NameFixPass()(model)
    ledger = account(found, facts, fates)
    ledger = dataclasses.replace(ledger, beyond_float16=tuple(beyond), certificate=certify(model, digits))
    return Solution(writing, ledger, variances)


def _restore_epsilon(found: tuple[Found, ...], places: Places) -> dict[str, Float64]:
    """ONNX keeps epsilon in float32, a module in float64: the variance takes the difference, and comes back by name."""
    restored: dict[str, Float64] = {}
    for item in found:
        variance, epsilon = item.node.inputs[_VARIANCE], getattr(places.owner(scope_of(item.node)), "eps", None)
        stored = float(np.float32(attribute(item.node, "epsilon", _EPSILON)))
        array = float64_constant(variance)
        if (
            variance is None
            or array is None
            or not isinstance(epsilon, float)
            or abs(epsilon - stored) > _EPSILON * stored
            or str(variance.name) in restored  # a module that is called again
        ):
            continue
        alone = all(kind_of(user) == op.BatchNormalization and index == _VARIANCE for user, index in variance.uses())
        if item.node.outputs[0].dtype != ir.DataType.DOUBLE and alone:
            restored[str(variance.name)] = array + (epsilon - stored)
            variance.const_value = ir.Tensor(restored[str(variance.name)], name=variance.name)
    return restored


def _is_place(places: Places, name: str, value: ir.Value) -> bool:
    return float64_constant(value) is not None and places.of(name, "") is not None


def _settled(graph: ir.Graph, slots: Slots) -> tuple[Units, Choice, dict[ir.Node, Rewrite], Takers, Writing]:
    """Choose until everything that the choice asks for can be written."""
    stay: dict[ir.Node, Stays] = {}
    while True:
        units = relate_graph(graph, slots.failed)
        n_failed = len(slots.failed)
        restrict(slots, units)
        if len(slots.failed) > n_failed:
            continue
        _only_batchnorms(units)
        choice = choose(units, stay)
        plan, failed = plan_parameters(graph, choice)
        if failed:
            slots.failed |= failed
            continue
        takers = Takers(plan, choice.gauge)
        beyond = beyond_range(choice, plan, takers)
        if beyond:
            stay |= beyond
            continue
        writing = Writing(slots)
        refused = writing.take(choice, plan)
        if not refused.failed and not refused.stay:
            return units, choice, plan, takers, writing
        slots.failed |= refused.failed
        stay |= refused.stay


def _only_batchnorms(units: Units) -> None:
    """A constant Mul or Add stays in the module's code, with another constant: it need not vanish."""
    for site in units.sites:
        if kind_of(site.node) in (op.Mul, op.Div):
            units.use(np.asarray(site.x_ids))
    units.sites[:] = [site for site in units.sites if kind_of(site.node) == op.BatchNormalization]
