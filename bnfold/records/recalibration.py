"""The running statistics of a network, and what `bnfold recalibrate` made of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from bnfold.records.base import MIN_VARIANCE_OVER_EPSILON, few
from bnfold.shown import Shown

__all__ = ["MAX_INITIAL_SHARE", "MAX_MEAN_DRIFT", "LayerStatistics", "RecalibrationReport"]

# The weight of the initial statistics from which on a moving average is called unfinished, and the shift of a mean, in
# deviations, from which on statistics are called stale.
MAX_INITIAL_SHARE = 0.01
MAX_MEAN_DRIFT = 0.25


@dataclasses.dataclass(frozen=True)
class LayerStatistics:
    """The running statistics of one BatchNorm, those found against those measured again.

    `mean_drift` is the root mean square over the channels of (new - old) / sqrt(new variance + epsilon),
    `variance_ratio` the largest ratio of the variances (with epsilon), either way up. `untouched`: mean 0, variance 1
    throughout, or no batch tracked. `initial_share` is the weight that these initial values still have in the moving
    average. `n_near_eps` counts channels whose epsilon decides the scale; `dropouts` names what drops in front of it;
    `n_gamma_zero` counts channels with gamma = 0, `n_gamma_small` those below 1 % of the layer's largest. It is not
    `reached` if the network does not call it.
    """

    name: str
    n_channels: int
    reached: bool
    mean_drift: float
    variance_ratio: float
    untouched: bool
    initial_share: float
    min_var_over_eps: float
    n_near_eps: int
    dropouts: tuple[str, ...]
    n_gamma_zero: int
    n_gamma_small: int


@dataclasses.dataclass(frozen=True, repr=False)
class RecalibrationReport(Shown):
    """What `bnfold recalibrate` did.

    `mode` is "pooled", "layerwise" or "adapt"; `data` names what the statistics were measured on. `before` and `after`
    hold the task's metrics on the run's own test split; `target_before` and `target_after` the metrics on the target of
    an adaptation, with `entropy`, the mean entropy of the predictions in nats; empty otherwise. `written` is False for
    a dry run. `json_properties` adds the `warnings`.
    """

    source: Path
    run: Path
    written: bool
    mode: str
    data: str
    prior: float
    n_samples: int
    n_batches: int
    goal: str
    before: Mapping[str, float]
    after: Mapping[str, float]
    target_before: Mapping[str, float]
    target_after: Mapping[str, float]
    layers: tuple[LayerStatistics, ...]
    weights_sha256: str | None
    seconds: float
    schema: ClassVar[str] = "bnfold.recalibrate/1"
    json_constants: ClassVar[tuple[str, ...]] = ("schema",)
    json_properties: ClassVar[tuple[str, ...]] = ("warnings",)

    def in_a_line(self) -> str:
        """The run, and its metric before and after."""
        before, after = self.before.get(self.goal), self.after.get(self.goal)
        moved = "" if before is None or after is None else f": {self.goal} {before:.4g} before, {after:.4g} after"
        return f"{self.run}, {self.mode} on {self.n_samples} samples{moved}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was wrong with the statistics that were found, and what still is, one sentence each."""
        unfinished = [one for one in self.layers if not one.untouched and one.initial_share > MAX_INITIAL_SHARE]
        drops = sorted({name for one in self.layers for name in one.dropouts})
        findings = (
            ([one.name for one in self.layers if one.untouched], "the statistics were untouched: mean 0, variance 1"),
            ([one.name for one in unfinished], "too few updates for its momentum: initial values were still in them"),
            (
                [one.name for one in self.layers if one.mean_drift > MAX_MEAN_DRIFT],
                f"the mean was off by more than {MAX_MEAN_DRIFT:g} deviations",
            ),
            (
                [one.name for one in self.layers if one.n_near_eps],
                f"channels with a variance below {MIN_VARIANCE_OVER_EPSILON:g} epsilon: epsilon decides the scale",
            ),
            (
                [one.name for one in self.layers if one.dropouts],
                f"behind dropout ({few(drops)}): in training the variance was another; put it behind the last one",
            ),
            (
                [one.name for one in self.layers if one.n_gamma_zero + one.n_gamma_small],
                "channels with gamma 0 or next to it carry nothing; train with --l1-gamma, and they can be removed",
            ),
            ([one.name for one in self.layers if not one.reached], "the network does not call it: left as it was"),
        )
        return tuple(f"{few(names)}: {text}" for names, text in findings if names)
