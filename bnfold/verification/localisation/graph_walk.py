"""A file against another graph, node by node in float64: which nodes compute something else.

The file's nodes are taken in order. A node of the other graph is the counterpart of one of the file if it has the same
operator and reads the counterparts of its inputs, or if it writes a value of the same name. Of a value y with the
counterpart z

    distance = y - z,     rounding = y, parameters w at w (1 + u r) - y,    r uniform on [-1, 1],

y *agrees* with z if the distance is at most K_PARAMETERS times the rounding, as root mean square and as maximum (the
criterion for whole files, `bnfold.verification.checks.parameter_errors`, for one value). Where values agree the next
nodes read z, so that no error is carried on. A value that does not agree *diverges* if an output that does not agree
can be reached from it through none but such values: a value in other units, whose readers make up for that, does not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from bnfold.errors import InputRefused
from bnfold.numerics.error_bounds import PooledError, unit_roundoff
from bnfold.verification.checks.criterion import K_PARAMETERS
from bnfold.verification.execution.roundings import n_draws
from bnfold.verification.localisation.float64_nodes import Arrays, Nodes, same_definition, widened
from bnfold.verification.localisation.twin_nodes import Twins

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from onnx import NodeProto

__all__ = ["FLOAT64_FLOOR", "Suspect", "Walk"]

FLOAT64_FLOOR = math.sqrt(unit_roundoff("float64"))  # two right orders of float64 arithmetic keep half of the digits


@dataclass(frozen=True)
class Suspect:
    """A node of the file at which it diverges.

    `region` holds it and the nodes in front of it up to values that agree; errors are relative to the value's size.
    """

    node: NodeProto
    value: str
    counterpart: str
    region: tuple[NodeProto, ...]
    error: float
    inputs_error: float


@dataclass
class _State:
    """What is known of one value of the file."""

    array: np.ndarray
    moved: list[np.ndarray]
    counterpart: str | None
    agrees: bool
    error: float
    region: tuple[int, ...]
    taken: bool = False  # its readers read the counterpart


class Walk:
    """One comparison of a file with another graph on one feed.

    Args:
        file: the graph that is judged.
        other: the graph it is compared with.
        feed: inputs by name, the same for both.
        u: unit roundoff of the format that the file stores.
        seed: of the roundings.
    """

    def __init__(self, file: Nodes, other: Nodes, feed: Mapping[str, np.ndarray], *, u: float, seed: int) -> None:
        self.file = file
        self.other = other
        self.feed = widened(feed)
        self.exact = other.evaluate(feed)
        self.states: dict[str, _State] = {}
        self._ends = file.outputs  # or those of the first node that cannot be evaluated
        self._u = u
        self._seed = seed
        self._draws = n_draws(feed)
        self._twins = Twins(file, other)

    def suspects(self) -> list[Suspect]:
        """The nodes that diverge, in the file's order; empty where all outputs agree."""
        self._pass(frozenset())
        diverged = self._diverged()
        first = self._listed(diverged)[:1]
        if first:
            self._pass(diverged)
        return [*first, *(suspect for suspect in self._listed(diverged) if suspect.node is not first[0].node)]

    def hidden(self) -> list[Suspect]:
        """Layers that diverge although no output does, on this feed: what reads them ignores the difference.

        Asked of a graph with the same values by the same names, such as the source folded again.
        """
        self._pass(frozenset())
        names = [n for n, s in self.states.items() if s.counterpart == n and not s.agrees]
        found = self._listed(frozenset(names))
        return [suspect for suspect in found if self.file.parameters(suspect.node)][:1]

    def _diverged(self) -> frozenset[str]:
        """The values that diverge, from the outputs upwards."""
        todo = [name for name in self._ends if name in self.states and not self.states[name].agrees]
        found: set[str] = set()
        while todo:
            name = todo.pop()
            if name in found or name not in self.file.writers:
                continue
            found.add(name)
            reads = self.file.reads(self.file.writers[name])
            todo += [read for read in reads if not self.states[read].agrees]
        return frozenset(found)

    def _listed(self, diverged: frozenset[str]) -> list[Suspect]:
        found = []
        for node in self.file.nodes:
            for name in node.output:
                state = self.states.get(name)
                if name not in diverged or state is None or state.counterpart is None or state.agrees:
                    continue
                region = tuple(self.file.nodes[index] for index in state.region)
                inputs = self._inputs_error(region)
                found.append(Suspect(node, name, state.counterpart, region, state.error, inputs))
        return found

    def _inputs_error(self, region: Sequence[NodeProto]) -> float:
        """The largest error of what a region reads from outside."""
        reads = {read for node in region for read in self.file.reads(node)}
        return max((self.states[name].error for name in reads if self.states[name].agrees), default=0.0)

    def _pass(self, forced: frozenset[str]) -> None:
        """Evaluate the file; readers of the values `forced` get their counterparts."""
        self.states = {
            name: _State(array, [array] * self._draws, name, agrees=True, error=0.0, region=(), taken=True)
            for name, array in self.feed.items()
        }
        generator = np.random.default_rng(self._seed)
        for index, node in enumerate(self.file.nodes):
            reads = [self.states[name] for name in self.file.reads(node)]
            twin = self._twins.of(node, [state.counterpart for state in reads])
            names = self._twins.names(node, twin)
            if twin is not None and all(state.taken for state in reads) and self._same(node, twin, names):
                self._take(names)
                continue
            region = tuple(sorted({index, *(i for state in reads if not state.taken for i in state.region)}))
            try:
                arrays, moved = self._evaluate(node, generator)
            except InputRefused:  # inputs of a wrong shape, say: nothing behind this node can be computed
                self._stop(node, names, region)
                return
            for name, array in arrays.items():
                if twin is None and name not in self.file.outputs and array.shape != self._shape(names.get(name)):
                    names.pop(name, None)  # another value of the same name
                state = self._judged(array, [one[name] for one in moved], names.get(name), region)
                if not state.agrees and name in forced and array.shape == self._shape(names.get(name)):
                    state = replace(self._taken(names[name], error=state.error), agrees=False, region=region)
                self.states[name] = state

    def _stop(self, node: NodeProto, names: Mapping[str, str], region: tuple[int, ...]) -> None:
        """Take down a node that cannot be evaluated as one that diverges."""
        self._ends = tuple(node.output)
        for name in node.output:
            counterpart = names.get(name, name)
            self.states[name] = _State(np.empty(0), [], counterpart, agrees=False, error=math.inf, region=region)

    def _same(self, node: NodeProto, twin: NodeProto, names: Mapping[str, str]) -> bool:
        if not all(names[a] == b for a, b in zip(node.output, twin.output, strict=False) if a in names):
            return False  # outputs of the file that have changed places
        aligned = {n: s.counterpart for n, s in self.states.items() if s.counterpart is not None and s.taken}
        return same_definition((self.file, node), (self.other, twin), aligned)

    def _take(self, names: Mapping[str, str]) -> None:
        for name, counterpart in names.items():
            self.states[name] = self._taken(counterpart, error=0.0)

    def _shape(self, counterpart: str | None) -> tuple[int, ...] | None:
        return None if counterpart is None else self.exact[counterpart].shape

    def _taken(self, counterpart: str, *, error: float) -> _State:
        """The state of a value that its readers read as the counterpart."""
        exact = self.exact[counterpart]
        return _State(exact, [exact] * self._draws, counterpart, agrees=True, error=error, region=(), taken=True)

    def _evaluate(self, node: NodeProto, generator: np.random.Generator) -> tuple[Arrays, list[Arrays]]:
        """The node's outputs, and these with its parameters rounded at random."""
        reads = self.file.reads(node)
        arrays = self.file.run(node, {name: self.states[name].array for name in reads})
        parameters = self.file.parameters(node)
        if not parameters and all(self.states[name].moved[0] is self.states[name].array for name in reads):
            return arrays, [arrays] * self._draws
        moved = []
        for k in range(self._draws):
            rounded = {n: w * (1 + self._u * generator.uniform(-1, 1, w.shape)) for n, w in parameters.items()}
            moved.append(self.file.run(node, {**{n: self.states[n].moved[k] for n in reads}, **rounded}))
        return arrays, moved

    def _judged(
        self, array: np.ndarray, moved: list[np.ndarray], counterpart: str | None, region: tuple[int, ...]
    ) -> _State:
        if counterpart is None:
            return _State(array, moved, None, agrees=False, error=math.nan, region=region)
        agrees, error = _agreement(array, moved, self.exact[counterpart])
        if agrees:
            return self._taken(counterpart, error=error)
        return _State(array, moved, counterpart, agrees=False, error=error, region=region)


def _agreement(array: np.ndarray, moved: list[np.ndarray], exact: np.ndarray) -> tuple[bool, float]:
    """Whether a value is its counterpart up to rounded parameters, and how far it lies off, relative to its size."""
    if array.shape != exact.shape or array.dtype.kind != exact.dtype.kind:
        return False, math.inf
    if array.dtype.kind != "f":
        differing = float(np.mean(array != exact)) if array.size else 0.0
        return differing == 0, differing
    distance, rounding, size = PooledError(), PooledError(), PooledError()
    with np.errstate(all="ignore"):  # NaN and infinity diverge
        distance.add(array - exact)
        size.add(exact)
        for one in moved:
            rounding.add(one - array)
    relative = distance.rms / size.rms if size.rms else (0.0 if distance.rms == 0 else math.inf)
    agrees = distance.rms <= K_PARAMETERS * rounding.rms + FLOAT64_FLOOR * size.rms
    agrees &= distance.maximum <= K_PARAMETERS * rounding.maximum + FLOAT64_FLOOR * size.maximum
    return bool(agrees), relative
