"""What became of every BatchNorm of a source."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal, get_args

from bnfold.records.base import MIN_VARIANCE_OVER_EPSILON, few
from bnfold.records.benchmark import Leaning, RatioVerdict
from bnfold.records.causes import Cause, Stays
from bnfold.records.certificate import Certificate
from bnfold.records.input_format import PreprocessingFold
from bnfold.records.sentences import reason
from bnfold.shown import Shown

__all__ = ["MAX_SCALE", "Ledger", "LedgerEntry", "MeasuredChoice", "MergedBranches", "Outcome", "RemovedChannels"]

MAX_SCALE = 1e3

Outcome = Literal["absorbed", "merged", "removed", "kept"]


@dataclasses.dataclass(frozen=True)
class LedgerEntry:
    """What happened to one BatchNorm of the source.

    `into` names the operators whose weights took it, none where it was `y = x`; `stays` is why a kept one did not
    vanish, which `reason` says in a sentence, `cause` in a word, and `held_by` with the names of what holds it. Scales
    `s` and variances are those of `y = s x + t`, `s = gamma / sqrt(var + eps)`. `fresh`: mean 0 and variance 1
    throughout, as before any training.
    """

    name: str
    outcome: Outcome
    into: tuple[str, ...]
    stays: Stays | None
    max_abs_scale: float
    min_var_over_eps: float
    n_dead_channels: int
    fresh: bool = False
    json_left_out: ClassVar[tuple[str, ...]] = ("stays",)
    json_properties: ClassVar[tuple[str, ...]] = ("reason", "cause", "held_by")

    @property
    def reason(self) -> str | None:
        """Why it stayed, in a sentence; None where it did not."""
        return None if self.stays is None else reason(self.stays)

    @property
    def cause(self) -> Cause | None:
        """Why it stayed, in a word; see docs/causes.md. None where it did not."""
        return None if self.stays is None else self.stays.cause

    @property
    def held_by(self) -> tuple[str, ...]:
        """The layers, and the inputs and outputs of the graph, that hold it; a BatchNorm that holds itself has none."""
        return () if self.stays is None else self.stays.held_by


@dataclasses.dataclass(frozen=True)
class RemovedChannels:
    """A linear operator that writes fewer channels than in the source, as the others were dead.

    `layer` is its name in the user's model. In JSON the numbers are `from` and `to`.
    """

    layer: str
    n_before: int
    n_after: int
    json_names: ClassVar[Mapping[str, str]] = {"n_before": "from", "n_after": "to"}


@dataclasses.dataclass(frozen=True)
class MergedBranches:
    """Parallel branches that became one operator: `layer` is whose sum it was, `branches` name what was merged.

    In the user's names, and in the order of the work they took.
    """

    layer: str
    branches: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class MeasuredChoice:
    """A rewrite that is taken only where it was measured faster; median milliseconds of one interleaved run."""

    rewrite: str
    taken: bool
    provider: str
    with_ms: float
    without_ms: float
    ratio: float
    low: float
    high: float
    verdict: RatioVerdict
    leaning: Leaning | None = None


@dataclasses.dataclass(frozen=True, repr=False)
class Ledger(Shown):
    """Every BatchNorm of the source, exactly once, in the graph's order.

    `beyond_float16` names the folded parameters that a conversion to float16 would overflow. `choices` are those that
    measurements decided, in their order; `measured` is the one about BatchNorms in front of ReLUs, None where there is
    none. `notes` say what else changed in a module: parametrizations that are stored, tied weights that are two now.
    `removed_channels` names the operators that lost dead channels, `merged_branches` what became one operator; reports
    have both beside the ledger.
    `certificate` is what the fold says of every value and parameter of its graph, for
    `bnfold.verification.certificate` to prove. `preprocessing` says where that of pixels is, None where the file takes
    the network's own input.
    """

    entries: tuple[LedgerEntry, ...]
    beyond_float16: tuple[str, ...] = ()
    measured: MeasuredChoice | None = None
    choices: tuple[MeasuredChoice, ...] = ()
    removed_channels: tuple[RemovedChannels, ...] = ()
    certificate: Certificate | None = dataclasses.field(default=None, compare=False)
    notes: tuple[str, ...] = ()
    preprocessing: PreprocessingFold | None = None
    merged_branches: tuple[MergedBranches, ...] = ()
    json_left_out: ClassVar[tuple[str, ...]] = ("removed_channels", "certificate", "merged_branches")
    json_properties: ClassVar[tuple[str, ...]] = ("found", "absorbed", "merged", "removed", "kept", "warnings")

    def in_a_line(self) -> str:
        """How many BatchNorms there were, and how many ended in which way."""
        counts = ", ".join(f"{self.count(outcome)} {outcome}" for outcome in get_args(Outcome))
        return f"{self.found} BatchNorms: {counts}"

    def count(self, outcome: Outcome) -> int:
        """How many entries ended as `outcome`."""
        return sum(entry.outcome == outcome for entry in self.entries)

    @property
    def found(self) -> int:
        """The number of BatchNorms in the source."""
        return len(self.entries)

    @property
    def absorbed(self) -> int:
        """BatchNorms that vanished into the weights around them."""
        return self.count("absorbed")

    @property
    def merged(self) -> int:
        """BatchNorms that vanished with the parallel branches they stood in."""
        return self.count("merged")

    @property
    def removed(self) -> int:
        """BatchNorms on dead channels or unused values."""
        return self.count("removed")

    @property
    def kept(self) -> int:
        """BatchNorms that stayed, each with its reason."""
        return self.count("kept")

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is badly conditioned in the source's BatchNorms, and in the folded parameters, one sentence each."""
        steep = [entry.name for entry in self.entries if entry.max_abs_scale > MAX_SCALE]
        flat = [entry.name for entry in self.entries if entry.min_var_over_eps < MIN_VARIANCE_OVER_EPSILON]
        fresh = [entry.name for entry in self.entries if entry.fresh]
        sentences = (
            (fresh, "mean 0 and variance 1, as before any training: load weights, or nothing said here holds for them"),
            (steep, f"scale above {MAX_SCALE:g}: rounding errors of the input grow as much"),
            (flat, f"running variance below {MIN_VARIANCE_OVER_EPSILON:g} epsilon: epsilon decides the scale"),
            (list(self.beyond_float16), "beyond the range of float16: keep the file in float32"),
        )
        return tuple(f"{few(names)}: {text}" for names, text in sentences if names)
