"""What the loop knows of a task: the updates of a training step, and sums that become metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from bnfold.errors import InputRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch
    from torch import nn

    from bnfold.training.data import Batch

__all__ = ["SupervisedTask", "Task", "Update", "require_shapes"]


@dataclass(frozen=True)
class Update:
    """One of the updates of a training step: a part of the network descends the gradient of its own loss.

    Attributes:
        name: of the part, for messages; "" where it is the whole network.
        part: the submodule whose parameters one optimizer of their own moves; the network itself where it is all.
        loss: from the network in train mode and a batch to a scalar, the mean over the batch. Its gradient reaches
            other parts too, which is why gradients are cleared in front of each `backward`.
    """

    name: str
    part: Callable[[nn.Module], nn.Module]
    loss: Callable[[nn.Module, Batch], torch.Tensor]


class Task(Protocol):
    """A task, without state: `tally` may be added over batches and over the processes of a distributed run."""

    @property
    def goal(self) -> str:
        """The name of the metric a user asks for first."""

    @property
    def maximise(self) -> bool:
        """Whether a larger value of that metric is better."""

    @property
    def updates(self) -> tuple[Update, ...]:
        """What a training step does with a batch, in this order; one update but for networks that play a game."""

    def check(self, outputs: Any, batch: Batch) -> None:
        """Refuse a network whose outputs do not fit (raises InputRefused)."""

    def tally(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """Sums over the batch, float64; the tally of a split is the sum of the tallies of its batches."""

    def metrics(self, tally: torch.Tensor) -> Mapping[str, float]:
        """The metrics of a tally; `loss` is one of them."""


class SupervisedTask:
    """A task with one loss between what the network gives and what it should give."""

    def loss(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """What is minimised: a scalar, the mean over the batch."""
        raise NotImplementedError

    @property
    def updates(self) -> tuple[Update, ...]:
        """One: the whole network descends the loss."""
        return (Update("", lambda module: module, lambda module, batch: self.loss(module(*batch.inputs), batch)),)


def require_shapes(task: str, outputs: Sequence[Any], expected: Sequence[tuple[int, ...]]) -> None:
    """Refuse outputs of other shapes.

    Raises:
        InputRefused: says what was found and what the task takes.
    """
    found = [tuple(x.shape) if hasattr(x, "shape") else type(x).__name__ for x in outputs]
    if found != [*expected]:
        raise InputRefused(
            f"the network's outputs do not fit a {task}",
            found=" and ".join(map(str, found)),
            expected=" and ".join(map(str, expected)),
            remedy="mend the network's last layers",
        )
