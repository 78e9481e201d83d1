"""What the rooms need to know of an operator: the fields of the operator table (`bnfold.graph.operators`)."""

from __future__ import annotations

import enum
from typing import Literal

from bnfold.graph.costs import Cost

__all__ = ["Integers", "Operator", "Trait"]

Integers = Literal["none", "weights", "join", "pool", "table", "move"]


class Trait(enum.Flag):
    """What is true of an operator, whatever its attributes and inputs are."""

    POINTWISE = enum.auto()
    """An element of y is computed from the elements at its own position, operands broadcast."""
    LINEAR = enum.auto()
    """y = W x + b: reads channels through weights."""
    RECURRENT = enum.auto()
    """A cell along a sequence, which reads x through weights and its own state."""
    AFFINE = enum.auto()
    """y = s x + t with constants: what may vanish into its neighbours."""
    SUM = enum.auto()
    """Adds or subtracts its operands."""
    HOMOGENEOUS = enum.auto()
    """f(a x) = a f(x) for a > 0, and no more: f(x + d) is another function. Of Clip, where it is a ReLU."""
    MAXIMUM = enum.auto()
    """The largest of elements: f(a (x + d)) = a (f(x) + d) for a > 0."""
    FLAT = enum.auto()
    """Has pieces on which y does not change with x."""
    CURVED = enum.auto()
    """Commutes with no change of units: it pins them by its nature, not for want of a rule."""
    SAME_VALUES = enum.auto()
    """The elements of y are those of x, in row-major order or repeated: only type or shape is another."""
    MOVES = enum.auto()
    """Every element of y is one of x."""
    PARAMETRIC = enum.auto()
    """Its stored floating-point inputs are parameters of a network; there are no sizes, axes or bounds among them."""
    COMPARES = enum.auto()
    """Compares two operands, which gives truth values."""
    RANDOM = enum.auto()
    """Draws random numbers."""
    KEEPS_BLOCKS = enum.auto()
    """ONNX Runtime's CPU provider computes it in the blocked layout of a convolution, NCHWc."""
    QUANTISED = enum.auto()
    """Reads or writes integers that stand for real numbers."""


class Operator(str):
    """An operator by name, with its facts.

    It is the text by which files name it: it compares and hashes as that text, and nodes are made with it. An operator
    of another domain than ONNX's own has its domain in front, `com.microsoft::QGemm`; `name` is without it.

    Attributes:
        traits: what is true of it.
        weight: the input that holds the weights; None where there is none.
        bias: the input that takes an offset of y, whether a node has one or not; None where there is none.
        channels: the axis of x and y that counts channels; None where that depends on the node.
        integers: how ONNX Runtime's CPU provider computes it on integers, between DequantizeLinear and QuantizeLinear:
            with `weights`, as a `join` of stored operands, a `pool`, by a `table`, as a `move` of integers as they
            are; `none`.
        cost: of a linear operator, what it adds up and multiplies.
    """

    traits: Trait
    weight: int | None
    bias: int | None
    channels: int | None
    integers: Integers
    cost: Cost | None

    def __new__(
        cls,
        text: str,
        traits: Trait = Trait(0),  # noqa: B008 - immutable
        *,
        weight: int | None = None,
        bias: int | None = None,
        channels: int | None = None,
        integers: Integers = "none",
        cost: Cost | None = None,
    ) -> Operator:
        """An operator and its facts, of which most operators have few."""
        self = super().__new__(cls, text)
        self.traits, self.weight, self.bias, self.channels = traits, weight, bias, channels
        self.integers, self.cost = integers, cost
        return self

    def has(self, traits: Trait) -> bool:
        """Whether the operator has a trait, or any of several (`A | B`)."""
        return bool(self.traits & traits)

    @property
    def name(self) -> str:
        """The name within its domain, as `op_type` of a node holds it."""
        return self.rpartition("::")[2]
