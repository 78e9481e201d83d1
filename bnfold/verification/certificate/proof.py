"""What a proof has found, and where it failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bnfold.verification.certificate.judge import Outcome
    from bnfold.verification.certificate.regions import Region

__all__ = ["Failed", "Options", "Proof"]


@dataclass(frozen=True)
class Failed:
    """The first value that is not what it should be, with the operators of both graphs.

    `is_known` is False where nothing was found out: an operator cannot be evaluated, or no region computes both.
    """

    value: str
    counterpart: str
    region: Region | None
    outcome: Outcome
    reason: str
    is_known: bool = True


@dataclass
class Proof:
    """What was proven."""

    regions: int = 0
    certified: int = 0
    largest_region: int = 0
    large_regions: list[tuple[str, ...]] = field(default_factory=list)
    unexcited_channels: int = 0
    largest_error: float = 0.0
    max_ulps: float = 0.0
    n_compared: int = 0
    n_failed: int = 0
    failed: Failed | None = None

    def __bool__(self) -> bool:
        return self.failed is None


@dataclass(frozen=True)
class Options:
    """The seed of the random numbers, how far parameters may lie off, and whether the first failure ends the proof."""

    seed: int
    max_ulps: float
    whole: bool
