"""What `bnfold train` did, or would do."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from bnfold.shown import Shown

__all__ = ["TrainPlan", "TrainReport"]


@dataclasses.dataclass(frozen=True, repr=False)
class TrainReport(Shown):
    """What `bnfold train` did.

    `run` is the run folder; `metrics` holds `train_loss` and the metrics of `val` and `test` after the last epoch;
    `goal` names the one that matters; `split_sizes` counts the samples of train, val and test; `weights_sha256` is
    that of model.safetensors; `seconds` holds load and train; `epochs` names the last one (`done`), the one that was
    best on the validation split, and the one whose weights are kept; `processes` counts those that trained together.
    """

    run: Path
    model: str
    seed: int
    n_parameters: int
    goal: str
    metrics: Mapping[str, Any]
    recipe: Mapping[str, Any]
    split_sizes: Mapping[str, int]
    weights_sha256: str
    seconds: Mapping[str, float]
    epochs: Mapping[str, int] = dataclasses.field(default_factory=dict)
    processes: int = 1
    schema: ClassVar[str] = "bnfold.train/1"
    json_constants: ClassVar[tuple[str, ...]] = ("schema",)

    def in_a_line(self) -> str:
        """The network, where it is, and what it reached on the test split."""
        reached = self.metrics.get("test", {}).get(self.goal)
        found = "" if reached is None else f": {self.goal} {reached:.4g} on the test split"
        return f"{self.model} in {self.run}{found}"


@dataclasses.dataclass(frozen=True, repr=False)
class TrainPlan(Shown):
    """What `bnfold train --dry-run` would train; the names are those of TrainReport.

    `n_steps` counts the steps of all epochs, `n_steps_done` those that a run to be resumed has behind it.
    """

    run: Path
    model: str
    seed: int
    n_parameters: int
    goal: str
    recipe: Mapping[str, Any]
    split_sizes: Mapping[str, int]
    steps_per_epoch: int
    n_steps: int
    n_steps_done: int
    schema: ClassVar[str] = "bnfold.train-plan/1"
    json_constants: ClassVar[tuple[str, ...]] = ("schema",)

    def in_a_line(self) -> str:
        """The network, and the steps that it would take."""
        return f"{self.model} in {self.run}: {self.n_steps - self.n_steps_done} steps to come"
