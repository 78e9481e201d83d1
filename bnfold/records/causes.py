"""Why a BatchNorm stays, as data: the cause, and what holds it. The sentences are in `bnfold.records.sentences`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

__all__ = ["Cause", "Cycle", "Growth", "Held", "HeldSign", "Holder", "Overflow", "Refusal", "Stays", "ZeroScale"]


class Cause(StrEnum):
    """Why units cannot change, or a BatchNorm cannot be folded. docs/causes.md says what to do about each."""

    NO_RULE = "no_rule"
    UNKNOWN_SHAPE = "unknown_shape"
    CAPTURED = "captured"
    FAILED_RULE = "failed_rule"
    GRAPH_INPUT = "graph_input"
    GRAPH_OUTPUT = "graph_output"
    NONLINEAR = "nonlinear"
    PADDING = "padding"
    SIGN = "sign"
    PRODUCT = "product"
    DATA_STATISTICS = "data_statistics"
    SHARED = "shared"
    ZERO_SCALE = "zero_scale"
    FUSED_KERNEL = "fused_kernel"
    CONDITIONING = "conditioning"
    RANGE = "range"
    TRAINING_MODE = "training_mode"
    BATCH_STATISTICS = "batch_statistics"
    NOT_CONSTANT = "not_constant"
    REPLACEABLE = "replaceable"
    NO_PARAMETER = "no_parameter"
    INVALID = "invalid"

    @property
    def is_impossible(self) -> bool:
        """True where no exact fold of the file exists; False where one may, and bnfold has no rule for it yet."""
        return self not in _NO_RULE_YET


_NO_RULE_YET = frozenset({Cause.NO_RULE, Cause.UNKNOWN_SHAPE, Cause.CAPTURED, Cause.FAILED_RULE})


@dataclass(frozen=True)
class Refusal:
    """Why a rule does not apply to a node: its inputs and outputs then keep their units.

    Attributes:
        cause: what kind of obstacle it is.
        part: which part of the operator it is about; with the cause it is the key of the sentence.
        found: what stands there, where that is worth telling.
    """

    cause: Cause
    part: str = ""
    found: str = ""

    @property
    def held_by(self) -> tuple[str, ...]:
        """Nothing but the operator itself."""
        return ()


@dataclass(frozen=True)
class Holder:
    """What keeps a value in its units: an operator, one decided before it, an input or output of the graph.

    Attributes:
        cause: why it does.
        name: of the layer in the user's model, or of the input or output; empty where it is no single one.
        operator: the type of the operator, empty for anything else.
        refusal: why the rule of the operator does not apply, where it has one.
    """

    cause: Cause
    name: str = ""
    operator: str = ""
    refusal: Refusal | None = None

    @classmethod
    def refusing(cls, operator: str, name: str, refusal: Refusal) -> Holder:
        """An operator whose rule does not apply."""
        return cls(refusal.cause, name, operator, refusal)


@dataclass(frozen=True)
class Held:
    """The scales or the offsets around a BatchNorm are held, on its input (`before`), on its output (`after`), or both.

    Held on both sides it would vanish as soon as one of them let go: a cause that is not impossible goes first.
    """

    units: Literal["scale", "offset"]
    before: Holder | None = None
    after: Holder | None = None

    @property
    def cause(self) -> Cause:
        """That of the side that is the likelier to let go, of two alike the input's."""
        causes = [holder.cause for holder in (self.before, self.after) if holder is not None]
        return min(causes, key=lambda cause: cause.is_impossible, default=Cause.SHARED)

    @property
    def held_by(self) -> tuple[str, ...]:
        """The input's side first."""
        return _names(self.before, self.after)


@dataclass(frozen=True)
class HeldSign:
    """The scale of a channel is negative, and an operator needs the sign that its input has."""

    channel: int
    holder: Holder
    cause: Cause = Cause.SIGN

    @property
    def held_by(self) -> tuple[str, ...]:
        """The operator."""
        return _names(self.holder)


@dataclass(frozen=True)
class Cycle:
    """Input and output of a BatchNorm share one scale, on a path around it."""

    channel: int
    cause: Cause = Cause.SHARED

    @property
    def held_by(self) -> tuple[str, ...]:
        """No single operator."""
        return ()


@dataclass(frozen=True)
class ZeroScale:
    """A channel has scale 0, and its constant can neither be written by what stands in front nor taken by the readers.

    `before` and `after` are None where the channel shares its units with another one of scale 0.
    """

    channel: int
    before: Holder | None = None
    after: Holder | None = None
    cause: Cause = Cause.ZERO_SCALE

    @property
    def held_by(self) -> tuple[str, ...]:
        """The input's side first."""
        return _names(self.before, self.after)


@dataclass(frozen=True)
class Growth:
    """An offset would be stored at many times the magnitude of a value that others read, and cancel again."""

    channel: int
    value: str
    times: float
    cause: Cause = Cause.CONDITIONING

    @property
    def held_by(self) -> tuple[str, ...]:
        """No single operator."""
        return ()


@dataclass(frozen=True)
class Overflow:
    """A parameter of an operator would leave the range of its type."""

    parameter: str
    layer: str
    dtype: str
    cause: Cause = Cause.RANGE

    @property
    def held_by(self) -> tuple[str, ...]:
        """The operator that has the parameter."""
        return (self.layer,)


# Why a BatchNorm stays.
Stays = Refusal | Held | HeldSign | Cycle | ZeroScale | Growth | Overflow


def _names(*holders: Holder | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(holder.name for holder in holders if holder is not None and holder.name))
