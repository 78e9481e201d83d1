"""From new constants of a graph to new parameters of its module: each element goes back to where it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bnfold.folding.choose import Choice
from bnfold.folding.relations import Parameters, Rewrite
from bnfold.graph import operators as op
from bnfold.graph.attempts import Failure
from bnfold.graph.constants import attribute, float64_constant
from bnfold.graph.operators import kind_of
from bnfold.graph.scaled import Scaled
from bnfold.modules.norms import is_norm
from bnfold.modules.places import Place
from bnfold.modules.slots import NoParameter, Slots, scope_of
from bnfold.records.causes import Cause, Refusal, Stays

__all__ = ["Refused", "Vanished", "Writing"]

# Relative. Two uses of one parameter compute it by sums in other orders, which roundings of float64, 1e-16 each, tell
# apart: one value can be written for both. Values further apart have no parameter in common, and their BatchNorm stays.
# What was written is compared with the module in float64, to 1e-10 (`checking.py`).
_SAME = 1e-12
Float64 = NDArray[np.float64]


@dataclass
class Refused:
    """What cannot be written: nodes to hold, and BatchNorms that have to stay."""

    failed: dict[ir.Node, Failure] = field(default_factory=dict)
    stay: dict[ir.Node, Stays] = field(default_factory=dict)


@dataclass(frozen=True)
class Vanished:
    """A BatchNorm that is gone: where its gamma, beta, mean and variance lie, and whether one module holds them.

    `places` has None for a gamma of 1 or a beta of 0 that are no parameters.
    """

    places: tuple[Place | None, ...]
    epsilon: float
    is_module: bool

    @property
    def path(self) -> str:
        """Of the module that holds the variance."""
        place = self.places[-1]
        if place is None:
            raise ValueError("a BatchNorm without a place for its variance cannot vanish")
        return place.path


@dataclass
class _Draft:
    """A parameter as it will be, and which operators have written each part of it."""

    array: Float64
    written: NDArray[np.bool_]
    writers: list[ir.Node] = field(default_factory=list)


class Writing:
    """New parameters in float64 by place, and the BatchNorms that vanish.

    Attributes:
        parameters: the parameters that change, those that appear among them.
        vanished: the BatchNorms that vanish, by the place of their variance.
        shares_inputs: whether one of them read a tensor that others read too: what works in place behind it must not.
    """

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._drafts: dict[Place, _Draft] = {}
        self.vanished: dict[str, Vanished] = {}
        self.new: set[Place] = set()
        self.shares_inputs = False

    @property
    def parameters(self) -> dict[Place, Float64]:
        """By place, those whose values are others than before."""
        found = {}
        for place, draft in self._drafts.items():
            old = None if place in self.new else self._old(place)
            if old is None or not np.array_equal(draft.array, old):
                found[place] = draft.array
        return found

    def take(self, choice: Choice, plan: Mapping[ir.Node, Rewrite]) -> Refused:
        """Write everything down; what contradicts something else comes back."""
        refused = Refused()
        self._take_norms(choice, refused)
        for node, new in plan.items():
            if kind_of(node) == op.BatchNormalization:
                self._take_statistics(node, new.parameters, refused)
                continue
            for index, array in new.parameters.items():
                whole = array.numpy() if isinstance(array, Scaled) else np.asarray(array)
                if not self._take(node, index, whole):
                    refused.failed[node] = NoParameter("shared")
            if new.bias is not None and not self._take(node, len(node.inputs), new.bias):
                refused.failed[node] = NoParameter("shared")
        for node, index in self._untouched(plan):
            if not self._stays(node, index):
                culprits = self._writers(node.inputs[index])
                refused.failed |= {writer: NoParameter("shared") for writer in culprits}
        return refused

    def _take_norms(self, choice: Choice, refused: Refused) -> None:
        """All calls of a BatchNorm vanish, or none."""
        gone = {site.node for site in choice.vanished}
        self.shares_inputs = any(len(site.x.uses()) > 1 or _is_end(site.x) for site in choice.vanished)
        calls: dict[Place, list[ir.Node]] = {}
        for node in self._slots.graph:
            place = self._slots.place_of_statistic(node, 4) if kind_of(node) == op.BatchNormalization else None
            if place is not None:
                calls.setdefault(place, []).append(node)
        for place, nodes in calls.items():
            leaving = [node for node in nodes if node in gone]
            if leaving and len(leaving) < len(nodes):
                refused.stay |= dict.fromkeys(leaving, Refusal(Cause.NO_PARAMETER, "calls", place.path))
            elif leaving:
                self._vanish(nodes[0])

    def _vanish(self, node: ir.Node) -> None:
        found = [self._slots.place_of_statistic(node, index) for index in range(1, 5)]
        owner = self._slots.places.owner(scope_of(node))
        whole = owner is not None and is_norm(owner) and len({place and place.path for place in found}) == 1
        self.vanished[str(found[-1])] = Vanished(tuple(found), float(attribute(node, "epsilon", 1e-5)), whole)

    def _take_statistics(self, node: ir.Node, new: Parameters, refused: Refused) -> None:
        for index, array in new.items():
            place, old = self._slots.place_of_statistic(node, index), float64_constant(node.inputs[index])
            if place is None and old is not None and not isinstance(array, Scaled) and np.array_equal(array, old):
                continue
            if place is None or isinstance(array, Scaled) or not self._write(place, np.asarray(array), node):
                refused.failed[node] = NoParameter("shared")

    def _take(self, node: ir.Node, index: int, array: Float64) -> bool:
        """Write one new constant of a node; whether all of it could be."""
        slots = self._slots
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is None or value.name in slots.new_biases:
            place = slots.places.takes_bias(scope_of(node))
            if place is None:
                return not array.any()
            return self._write(place, array, node)
        numbers, old = slots.numbers(value), float64_constant(value)
        if numbers is None or numbers.shape != array.shape:
            return old is not None and bool(np.allclose(array, old, rtol=_SAME, atol=0))
        fixed = numbers < 0
        if old is None or not np.array_equal(array[fixed], old[fixed]):
            return False
        for name, mask in slots.elements.parameters(numbers):
            place = slots.places.of(name, scope_of(node))
            if place is None:
                return False
            at = numbers[mask] - slots.elements.starts[name]
            if not self._write(place, array[mask], node, at):
                return False
        return True

    def _write(self, place: Place, array: Float64, node: ir.Node, at: NDArray[np.int64] | None = None) -> bool:
        if place not in self._drafts:
            old = self._old(place)
            if old is None:
                self.new.add(place)
                old = np.zeros(array.shape)
            self._drafts[place] = _Draft(old.copy(), np.zeros(old.size, bool))
        draft = self._drafts[place]
        where = np.arange(draft.written.size) if at is None else at
        flat, values = draft.array.reshape(-1), array.reshape(-1)
        if where.size != values.size:
            return False
        known = draft.written[where]
        if not np.allclose(flat[where][known], values[known], rtol=_SAME, atol=0):
            return False
        flat[where] = values
        draft.written[where] = True
        draft.writers.append(node)
        return True

    def _old(self, place: Place) -> Float64 | None:
        tensor = self._slots.places.tensors.get(place)
        return None if tensor is None else tensor.detach().double().cpu().numpy()

    def _untouched(self, plan: Mapping[ir.Node, Rewrite]) -> Iterator[tuple[ir.Node, int]]:
        """The constants that other operators read, or that a plan leaves as they are."""
        for node in self._slots.graph:
            if kind_of(node) == op.BatchNormalization:
                continue
            planned = plan[node].parameters if node in plan else {}
            for index, value in enumerate(node.inputs):
                if index not in planned and self._slots.numbers(value) is not None:
                    yield node, index

    def _stays(self, node: ir.Node, index: int) -> bool:
        """Whether the elements that an operator reads as they are have not been written, or the same."""
        value = node.inputs[index]
        numbers = self._slots.numbers(value)
        if value is None or numbers is None:
            return True
        for name, mask in self._slots.elements.parameters(numbers):
            place = self._slots.places.of(name, scope_of(node))
            draft = None if place is None else self._drafts.get(place)
            if draft is None or place is None:
                continue
            at = numbers[mask] - self._slots.elements.starts[name]
            old = self._old(place)
            if old is not None and not np.array_equal(draft.array.reshape(-1)[at], old.reshape(-1)[at]):
                return False
        return True

    def _writers(self, value: ir.Value | None) -> list[ir.Node]:
        numbers = self._slots.numbers(value)
        if numbers is None:
            return []
        names = {name for name, _ in self._slots.elements.parameters(numbers)}
        places = [place for place in self._drafts if str(place) in names]
        return [node for place in places for node in self._drafts[place].writers]


def _is_end(value: ir.Value) -> bool:
    return value.is_graph_input() or value.is_graph_output()
