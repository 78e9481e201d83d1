"""Which channels carry a constant, and which can only be removed together.

A channel group is the set of elements that elementwise operators couple: a channel of a convolution, of its activation,
of the sum it enters. Elements have ids as in `units`; id 0 is of the group that must stay. `constants[id]` is the value
that an element always has, NaN where it varies.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import onnx_ir as ir

from bnfold.folding.units import Ids, Units
from bnfold.numerics.affine import Float64

__all__ = ["ChannelGroups", "Slot"]


@dataclass(frozen=True)
class Slot:
    """One axis of one parameter of a node that follows the channel groups `ids`; `role` says how it shrinks with them.

    `only_zero`: the reader can do without a channel group only where its constant is 0. `groups`: those of a grouped
    convolution, whose weight has the channels of one group along `axis`.
    """

    node: ir.Node
    index: int
    axis: int
    ids: Ids
    role: Literal["write", "read", "elementwise"]
    only_zero: bool = False
    groups: int = 1


@dataclass
class ChannelGroups:
    """The channel groups of a graph: ids and ties in `units`, constants by id, parameters that follow them.

    `pooled` are the inputs of poolings; `groupings` the channels before and behind each grouped convolution, shape
    (groups, channels of one); `divisors` what others are divided by.
    """

    opset: int
    units: Units = field(default_factory=Units)
    slots: list[Slot] = field(default_factory=list)
    flattens: list[ir.Node] = field(default_factory=list)
    pooled: list[Ids] = field(default_factory=list)
    groupings: list[Ids] = field(default_factory=list)
    divisors: list[Ids] = field(default_factory=list)
    _constants: Float64 = field(default_factory=lambda: np.full(1, np.nan))
    _n_settled: int = 0

    @property
    def constants(self) -> Float64:
        """The constants by id, NaN for what varies; it may be longer than there are ids."""
        return self._constants

    def give(self, value: ir.Value, shape: tuple[int, ...], constants: Float64) -> Ids:
        """New ids for a value, with their constants, broadcast to `shape`."""
        ids = self.units.fresh(shape)
        self.units.ids[value] = ids
        if self.units.n_ids > self._constants.size:
            self._constants = np.append(self._constants, np.full(self.units.n_ids, np.nan))
        self._constants[ids] = constants
        return ids

    def mark(self) -> tuple[tuple[int, ...], int, int]:
        """How much there is: what `take_back` goes back to."""
        return self.units.mark(), len(self.slots), len(self.flattens)

    def take_back(self, mark: tuple[tuple[int, ...], int, int]) -> None:
        """Forget the ids, ties and slots of a node since `mark()`; constants that became unknown stay unknown."""
        units, n_slots, n_flattens = mark
        self.units.take_back(units)
        del self.slots[n_slots:]
        del self.flattens[n_flattens:]
        self._n_settled = min(self._n_settled, len(self.units.equal_offsets))

    def settle(self) -> None:
        """Where one id has come to stand for several elements, it has their constant only if all have the same."""
        for a, b in self.units.equal_offsets[self._n_settled :]:
            differ = self._constants[a] != self._constants[b]
            self._constants[a[differ]] = self._constants[b[differ]] = np.nan
        self._n_settled = len(self.units.equal_offsets)

    def stay(self, value: ir.Value) -> None:
        """All channel groups of a value must stay."""
        if value in self.units.ids:
            self.units.tie_scales(self.units.ids[value], np.zeros(1, np.int64))

    def known(self, value: ir.Value) -> Float64:
        """The constants of a value's elements, shaped as its ids."""
        return self.constants[self.units.of(value)]
