"""Where other methods take part in a run: before an epoch, behind a step, behind the last epoch.

A hook may change the network in place; in a distributed run every process calls every hook. What a hook must remember
from step to step goes into `state`, which a checkpoint carries: otherwise a run that is resumed would not end with the
bits of one that was not interrupted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnfold.training.run import Run

__all__ = ["Hook"]


class Hook:
    """Does nothing; override what is needed."""

    def begin_epoch(self, run: Run) -> None:
        """Called with the network in train mode, `run.epoch` epochs done; called again when an epoch is resumed."""

    def after_step(self, run: Run) -> None:
        """Called when the optimisers have stepped with `run.lr`, before the moving average follows."""

    def finish(self, run: Run) -> None:
        """Called once, behind the last epoch; `run.module` holds the weights that the run will keep, in eval mode."""

    def state(self) -> Mapping[str, Any]:
        """What a checkpoint carries: plain JSON values."""
        return {}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` gave."""
