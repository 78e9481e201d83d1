"""Where other methods take part in a run: before an epoch, behind a step, behind the last epoch.

A hook may change the network in place; in a distributed run every process calls every hook. What a hook must remember
from step to step goes into `state`, which a checkpoint carries: otherwise a run that is resumed would not end with the
bits of one that was not interrupted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from bnfold.training.data import DataSet
    from bnfold.training.engine import Engine
    from bnfold.training.recipe import Recipe

__all__ = ["Hook", "HookedRun"]


class HookedRun(Protocol):
    """What a hook sees of a run, which is a `bnfold.training.run.Run`; the attributes are described there."""

    module: nn.Module
    data: DataSet
    recipe: Recipe
    engine: Engine
    epoch: int
    step: int
    lr: float


class Hook:
    """Does nothing; override what is needed."""

    def begin_epoch(self, run: HookedRun) -> None:
        """Called with the network in train mode, `run.epoch` epochs done; called again when an epoch is resumed."""

    def after_step(self, run: HookedRun) -> None:
        """Called when the optimisers have stepped with `run.lr`, before the moving average follows."""

    def finish(self, run: HookedRun) -> None:
        """Called once, behind the last epoch; `run.module` holds the weights that the run will keep, in eval mode."""

    def state(self) -> Mapping[str, Any]:
        """What a checkpoint carries: plain JSON values."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
