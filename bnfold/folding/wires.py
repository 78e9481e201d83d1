"""Which channels carry a constant, and which can only be removed together.

A wire is the set of elements that elementwise operators tie into one: a channel of a convolution, of its activation, of
the sum it enters. Elements have ids as in `units`; id 0 is the wire that must stay. `constants[id]` is the value that
an element always has, NaN where it varies.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import onnx_ir as ir

from bnfold.folding.units import Ids, Units
from bnfold.numerics.affine import Float64

__all__ = ["Slot", "Wires"]


@dataclass(frozen=True)
class Slot:
    """One axis of one parameter of a node that follows the wires `ids`; `role` says how it shrinks with them."""

    node: ir.Node
    index: int
    axis: int
    ids: Ids
    role: Literal["write", "read", "elementwise"]


@dataclass
class Wires:
    """The wires of a graph: ids and ties in `units`, constants by id, parameters that follow them.

    `only_zero` holds ids whose reader can do without them only where their constant is 0.
    """

    opset: int
    units: Units = field(default_factory=Units)
    constants: Float64 = field(default_factory=lambda: np.full(1, np.nan))
    slots: list[Slot] = field(default_factory=list)
    only_zero: list[Ids] = field(default_factory=list)
    flattens: list[ir.Node] = field(default_factory=list)

    def give(self, value: ir.Value, shape: tuple[int, ...], constants: Float64) -> Ids:
        """New ids for a value, with their constants, broadcast to `shape`."""
        ids = self.units.fresh(shape)
        self.units.ids[value] = ids
        self.constants = np.concatenate([self.constants, np.broadcast_to(constants, shape).ravel()])
        return ids

    def stay(self, value: ir.Value) -> None:
        """All wires of a value must stay."""
        if value in self.units.ids:
            self.units.tie_scales(self.units.ids[value], np.zeros(1, np.int64))

    def known(self, value: ir.Value) -> Float64:
        """The constants of a value's elements, shaped as its ids."""
        return self.constants[self.units.of(value)]
