"""The account of every BatchNorm of the source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bnfold.folding.gauge import Gauge
from bnfold.folding.relations import Rewrite
from bnfold.folding.units import Refusal, Site
from bnfold.graph.layers import layer_name
from bnfold.graph.outline import batchnorm_names
from bnfold.numerics.affine import BatchNormParameters
from bnfold.records import Ledger, LedgerEntry, Outcome
from bnfold.records.causes import Stays

__all__ = ["Fate", "Found", "Takers", "account", "find_batchnorms"]


@dataclass(frozen=True)
class Found:
    """A BatchNorm of the source, under a name that no other has."""

    node: ir.Node
    name: str


def find_batchnorms(model: ir.Model) -> tuple[Found, ...]:
    """Every BatchNormalization node, those in subgraphs included, in the graph's order. One used twice is two."""
    return tuple(Found(node, name) for node, name in batchnorm_names(model).items())


@dataclass(frozen=True)
class Fate:
    """What the fold did with a node: `into` names the operators that took it, `stays` is why it did not vanish."""

    outcome: Outcome
    into: tuple[str, ...] = ()
    stays: Stays | None = None


def account(
    found: tuple[Found, ...], facts: Mapping[ir.Node, BatchNormParameters | Refusal], fates: Mapping[ir.Node, Fate]
) -> Ledger:
    """One entry per BatchNorm, `facts` being its parameters in the source.

    One without a fate was taken out with what nobody reads.

    Raises:
        RuntimeError: one that is still there has no fate; a fault of the fold.
    """
    entries = []
    for item in found:
        parameters = facts[item.node]
        fate = fates.get(item.node)
        if item.node.graph is None and (fate is None or fate.outcome == "kept"):
            fate = Fate("removed")
        elif fate is None:
            raise RuntimeError(f"the fold left BatchNorm {item.name} without a fate")
        entries.append(_entry(item.name, fate, parameters))
    return Ledger(tuple(entries))


def _entry(name: str, fate: Fate, parameters: BatchNormParameters | Refusal) -> LedgerEntry:
    if isinstance(parameters, Refusal):
        return LedgerEntry(name, fate.outcome, fate.into, fate.stays, np.nan, np.nan, 0)
    mean, variance, epsilon = parameters.mean, parameters.variance, parameters.epsilon
    scale, _ = parameters.affine()
    ratio = float(variance.min(initial=np.inf) / epsilon) if epsilon else np.inf
    dead = int(np.sum(scale == 0))
    fresh = not mean.any() and bool((variance == 1).all())
    return LedgerEntry(
        name, fate.outcome, fate.into, fate.stays, float(np.abs(scale).max(initial=0.0)), ratio, dead, fresh
    )


@dataclass(frozen=True)
class _Step:
    """The operators next to a value that take its units, their names, and the values that others pass them on to."""

    takers: list[ir.Node]
    names: list[str]
    onward: list[ir.Value]


class Takers:
    """The operators whose parameters take a vanished site: upstream while x has new units, downstream while y has.

    In a residual stream every site meets all operators on it, so each step through the graph is looked up once.
    """

    def __init__(self, plan: Mapping[ir.Node, Rewrite], gauge: Gauge) -> None:
        self._plan = plan
        self._gauge = gauge
        self._up: dict[ir.Value, _Step] = {}
        self._down: dict[ir.Value, _Step] = {}

    def of(self, site: Site) -> set[ir.Node]:
        """The operators."""
        return {node for step in self._walk(site) for node in step.takers}

    def names(self, site: Site) -> tuple[str, ...]:
        """Their names in the user's model, the nearest downstream first."""
        return tuple(dict.fromkeys([name for step in self._walk(site) for name in step.names]))

    def _walk(self, site: Site) -> list[_Step]:
        """The steps from every value that has new units because of the site, or together with it."""
        steps: list[_Step] = []
        seen: set[ir.Value] = set()
        for start, known, upward in ((site.node.outputs[0], self._down, False), (site.x, self._up, True)):
            todo = [start]
            while todo:
                value = todo.pop()
                if value in seen:
                    continue
                seen.add(value)
                if value not in known:
                    known[value] = self._step(value, upward=upward)
                step = known[value]
                steps.append(step)
                todo += step.onward
        return steps

    def _step(self, value: ir.Value, *, upward: bool) -> _Step:
        step = _Step([], [], [])
        if not self._moves(value):
            return step
        for node in [value.producer()] if upward else [use.node for use in value.uses()]:
            if node is None:
                continue
            if node in self._plan:
                step.takers.append(node)
                step.names.append(layer_name(node))
            else:
                values = node.inputs if upward else node.outputs
                step.onward.extend(v for v in values if v is not None and self._moves(v))
        return step

    def _moves(self, value: ir.Value) -> bool:
        return value in self._gauge.units.ids and not self._gauge.trivial(value)
