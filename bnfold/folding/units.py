"""The units (gauge) of every tensor element as unknowns, and the relations that operators set between them.

A value `v` is stored as `v' = a (v + d)`, `a != 0`, per element. Each element of each float value has an id; the
original network is `a = 1, d = 0` at every id. A value's ids are an array of its rank with length 1 on the axes along
which all elements share their units. Id 0 is the pinned one: `a = 1, d = 0` for good.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bnfold.graph.constants import operand
from bnfold.graph.layers import layer_name
from bnfold.numerics.affine import Float64
from bnfold.records.causes import Cause, Holder, Refusal

__all__ = ["Deviations", "Ids", "OffsetRelation", "Pin", "Refusal", "Site", "Units", "holder"]

Ids = NDArray[np.int64]
Deviations = dict[ir.Node, Float64]


@dataclass(frozen=True)
class Pin:
    """Elements whose units something restricts: what holds a BatchNorm that stays, when there is one."""

    ids: Ids
    node: ir.Node | None
    holder: Holder


def holder(node: ir.Node, why: Cause | Refusal) -> Holder:
    """An operator as what holds units, under the name of its layer in the user's model."""
    if isinstance(why, Refusal):
        return Holder.refusing(node.op_type, layer_name(node), why)
    return Holder(why, layer_name(node), node.op_type)


@dataclass(frozen=True)
class OffsetRelation:
    """`sum_k coefficients[k] d[ids[k]] = 0`, elementwise; all arrays have one shape."""

    ids: tuple[Ids, ...]
    coefficients: tuple[Float64, ...]
    node: ir.Node


@dataclass(frozen=True)
class Site:
    """An operator `y = s x + t` with constant s and t of shape (C,), that vanishes if a_x = a_y s and s d_x = d_y + t.

    `saved` is the number of elements of y at batch 1: the work its disappearance saves. `mean` and `deviation` of x
    are known where the site is a BatchNorm.
    """

    node: ir.Node
    x: ir.Value
    x_ids: Ids
    y_ids: Ids
    scale: Float64
    shift: Float64
    saved: int
    mean: Float64 | None = None
    deviation: Float64 | None = None


@dataclass
class Units:
    """The ids of every value and the relations between them, filled node by node in topological order."""

    ids: dict[ir.Value, Ids] = field(default_factory=dict)
    n_ids: int = 1
    equal_scales: list[tuple[Ids, Ids]] = field(default_factory=list)
    equal_offsets: list[tuple[Ids, Ids]] = field(default_factory=list)
    offset_relations: list[OffsetRelation] = field(default_factory=list)
    scale_pins: list[Pin] = field(default_factory=list)
    offset_pins: list[Pin] = field(default_factory=list)
    positive: list[Pin] = field(default_factory=list)
    sites: list[Site] = field(default_factory=list)
    writers: list[tuple[Ids, ir.Node]] = field(default_factory=list)
    readers: list[tuple[Ids, ir.Node]] = field(default_factory=list)
    shifts: list[Ids] = field(default_factory=list)  # outputs of constant Adds
    other_uses: list[Ids] = field(default_factory=list)
    unruled: dict[ir.Value, Holder] = field(default_factory=dict)  # outputs of operators without a rule
    refused: dict[ir.Node, Refusal] = field(default_factory=dict)  # nodes whose rule does not apply, and why
    # Of BatchNorms that were kept before: the deviation of x in the units chosen then. Their variance stays as it was,
    # since gamma takes the scale.
    deviations: Deviations = field(default_factory=dict)

    def mark(self) -> tuple[int, ...]:
        """How much there is: what `take_back` goes back to."""
        return self.n_ids, len(self.ids), *(len(collected) for collected in self._collected)

    def take_back(self, mark: tuple[int, ...]) -> None:
        """Forget the ids, relations, pins and sites that a rule that failed had set since `mark()`."""
        self.n_ids, n_values, *lengths = mark
        for value in list(self.ids)[n_values:]:
            del self.ids[value]
        for collected, length in zip(self._collected, lengths, strict=True):
            del collected[length:]

    @property
    def _collected(self) -> tuple[list[Any], ...]:
        """Every list that rules add to."""
        return (
            self.equal_scales, self.equal_offsets, self.offset_relations, self.scale_pins, self.offset_pins,
            self.positive, self.sites, self.writers, self.readers, self.shifts, self.other_uses,
        )  # fmt: skip

    def of(self, value: ir.Value) -> Ids:
        """The ids of a value; those of a value nothing is known of are pinned."""
        if value not in self.ids:
            self.ids[value] = np.zeros((1,) * (0 if value.shape is None else len(value.shape)), np.int64)
        return self.ids[value]

    def fresh(self, shape: Iterable[int]) -> Ids:
        """New, unrelated ids."""
        shape = tuple(shape)
        count = int(np.prod(shape))
        self.n_ids += count
        return np.arange(self.n_ids - count, self.n_ids, dtype=np.int64).reshape(shape)

    def along(self, value: ir.Value, axis: int, length: int) -> Ids:
        """New ids for a value whose units differ along one axis only."""
        rank = len(value.shape) if value.shape is not None else 0
        shape = [1] * rank
        shape[axis] = length
        return self.fresh(shape)

    def tie(self, a: Ids, b: Ids) -> None:
        """Both units equal: a_1 = a_2, d_1 = d_2."""
        self.tie_scales(a, b)
        a, b = np.broadcast_arrays(a, b)
        self.equal_offsets.append((a.ravel(), b.ravel()))

    def tie_scales(self, a: Ids, b: Ids) -> None:
        """a_1 = a_2."""
        a, b = np.broadcast_arrays(a, b)
        self.equal_scales.append((a.ravel(), b.ravel()))

    def relate_offsets(self, node: ir.Node, *terms: tuple[Ids, Any]) -> None:
        """sum_k c_k d_k = 0 for terms (ids, c), broadcast together."""
        arrays = np.broadcast_arrays(*(ids for ids, _ in terms), *(np.asarray(c, np.float64) for _, c in terms))
        flat = [array.ravel() for array in arrays]
        n = len(terms)
        self.offset_relations.append(OffsetRelation(tuple(flat[:n]), tuple(flat[n:]), node))

    def pin(self, ids: Ids, node: ir.Node, why: Cause | Refusal) -> None:
        """a = 1 and d = 0."""
        self.keep_scale(ids, node, why)
        self.no_offset(ids, node, why)

    def keep_scale(self, ids: Ids, node: ir.Node, why: Cause | Refusal) -> None:
        """a = 1."""
        self.scale_pins.append(Pin(ids.ravel(), node, holder(node, why)))

    def no_offset(self, ids: Ids, node: ir.Node, why: Cause | Refusal) -> None:
        """d = 0."""
        self.offset_pins.append(Pin(ids.ravel(), node, holder(node, why)))

    def keep_sign(self, ids: Ids, node: ir.Node) -> None:
        """a > 0."""
        self.positive.append(Pin(ids.ravel(), node, holder(node, Cause.SIGN)))

    def pin_output(self, output: ir.Value) -> None:
        """a = 1 and d = 0 of an output of the graph, which is not ours to change."""
        ids = self.of(output)
        for pins in (self.scale_pins, self.offset_pins):
            pins.append(Pin(ids.ravel(), None, Holder(Cause.GRAPH_OUTPUT, output.name or "")))
        self.use(ids)

    def collapse(self, ids: Ids, axes: Iterable[int]) -> Ids:
        """Make the units uniform along `axes`: the ids of the first element stand for all."""
        axes = set(axes)
        first = ids[tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(ids.ndim))]
        if first.shape != ids.shape:
            self.tie(ids, np.broadcast_to(first, ids.shape))
        return first

    def channels(self, value: ir.Value, axis: int) -> Ids:
        """The ids of a value along one axis, shape (C,) or (1,), its units made uniform on all others."""
        ids = self.of(value)
        axis %= ids.ndim
        return self.collapse(ids, set(range(ids.ndim)) - {axis}).reshape(-1)

    def carry(self, node: ir.Node, move: Callable[[Ids], Ids]) -> None:
        """y is a rearrangement of x: its ids are the same ids, rearranged."""
        self.ids[node.outputs[0]] = move(self.of(operand(node)))

    def use(self, ids: Ids) -> None:
        """Note that an operator other than a rearrangement or a linear one reads these elements."""
        self.other_uses.append(ids.ravel())
