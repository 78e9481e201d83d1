"""Who takes what a BatchNorm did, once it has vanished."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from bnfold.folding.gauge import Gauge
from bnfold.folding.relations import Rewrite
from bnfold.folding.units import Site
from bnfold.graph.layers import layer_name

__all__ = ["Takers"]


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
