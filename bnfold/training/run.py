"""A run in progress: all that the next step depends on, and nothing else. `snapshot` writes it down."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bnfold.errors import GateFailed
from bnfold.training.average import make_average
from bnfold.training.optimise import make_optimizer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import torch
    from torch import nn
    from torch.optim.swa_utils import AveragedModel

    from bnfold.training.data import Batch, DataSet
    from bnfold.training.engine import Engine
    from bnfold.training.hooks import Hook
    from bnfold.training.recipe import Recipe
    from bnfold.training.tasks import Task

__all__ = ["Run", "begin", "state_copy"]


@dataclass
class Run:
    """A run in progress.

    Attributes:
        module: the user's network, trained in place.
        network: what a training step calls: `module`, or `module` in its distributed form.
        optimizers: one for each update of the task.
        average: a moving average of `module`, or None.
        order: draws the order of the samples.
        epoch: epochs that are done.
        step: steps that are done, over all epochs.
        in_epoch: steps of the epoch in progress that are done.
        lr: the learning rate of the latest step.
        losses: the loss of each of these steps, scalars; this process's share of it.
        order_before: the state of `order` at the begin of the epoch in progress.
        history: the lines of metrics.jsonl so far.
        best_key: of the best epoch, larger is better.
        best_epoch: 0 before the first.
        best_state: its weights.
        spare: when the run is finished, the weights it does not keep: of the best epoch, or of the last.
        on_first_batch: puts back the random states of a run that is resumed.
    """

    module: nn.Module
    network: nn.Module
    data: DataSet
    task: Task
    recipe: Recipe
    engine: Engine
    hooks: Sequence[Hook]
    optimizers: Sequence[torch.optim.Optimizer]
    average: AveragedModel | None
    order: torch.Generator
    epoch: int = 0
    step: int = 0
    in_epoch: int = 0
    lr: float = 0.0
    losses: list[torch.Tensor] = field(default_factory=list)
    order_before: torch.Tensor | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    best_key: tuple[float, ...] = ()
    best_epoch: int = 0
    best_state: dict[str, torch.Tensor] = field(default_factory=dict)
    spare: dict[str, torch.Tensor] = field(default_factory=dict)
    on_first_batch: Callable[[], None] | None = None

    @property
    def measured(self) -> nn.Module:
        """The network whose weights are measured and kept."""
        return self.module if self.average is None else self.average.module

    @property
    def stopped_early(self) -> bool:
        """Whether the validation split has not been better for `patience` epochs."""
        patience = self.recipe.patience
        return patience is not None and self.epoch - self.best_epoch >= patience

    @property
    def finished(self) -> bool:
        """Whether no further epoch follows."""
        return self.epoch >= self.recipe.epochs or self.stopped_early

    @property
    def kept_epoch(self) -> int:
        """The epoch whose weights a finished run keeps."""
        return self.best_epoch if self.recipe.keep == "best" else self.epoch

    @property
    def spare_epoch(self) -> int:
        """The epoch whose weights are in `spare`."""
        return self.epoch if self.recipe.keep == "best" else self.best_epoch

    def batches(self) -> Iterator[Batch]:
        """The batches of the epoch in progress that are still to be learnt."""
        if self.order_before is None:
            self.order_before = self.order.get_state()
        shuffled = iter(self.data.batches("train", self.recipe.batch_size, shuffle=self.order))
        for _ in range(self.in_epoch):
            next(shuffled)
        if self.on_first_batch is not None:
            self.on_first_batch()
            self.on_first_batch = None
        yield from shuffled

    def note_best(self, val: Mapping[str, float]) -> None:
        """Remember the weights if no epoch before was as good: by the goal, then by the loss."""
        goal = val[self.task.goal]
        key = (goal if self.task.maximise else -goal, -val["loss"])
        if not self.best_key or key > self.best_key:
            self.best_key, self.best_epoch, self.best_state = key, self.epoch, state_copy(self.measured)

    def mean_loss(self, n_last: int = 0) -> float:
        """The mean loss over all processes, of the steps of the epoch in progress or of the last ones of them.

        Raises:
            GateFailed: it is NaN or infinite.
        """
        import torch

        mine = torch.stack(self.losses[-n_last:]).cpu()
        loss = torch.stack(self.engine.gather(mine)).mean(0).mean().item()
        self.require_finite(loss, "training")
        return loss

    def require_finite(self, loss: float, name: str) -> None:
        """Refuse to go on with a loss that is NaN or infinite (raises GateFailed)."""
        if math.isfinite(loss):
            return
        raise GateFailed(
            f"the {name} loss is no longer a finite number",
            where=f"epoch {self.epoch + 1} of {self.recipe.epochs}",
            found=str(loss),
            remedy=f"train with a smaller --lr (it was {self.recipe.lr:g}) or more warm-up (--set warmup=0.3)",
        )


def begin(
    module: nn.Module,
    data: DataSet,
    task: Task,
    recipe: Recipe,
    *,
    seed: int,
    engine: Engine,
    hooks: Sequence[Hook] = (),
) -> Run:
    """A run before its first step."""
    import torch

    network = engine.prepare(module)
    optimizers = [make_optimizer(update.part(module), recipe) for update in task.updates]
    if engine.rank:
        torch.manual_seed(seed + engine.rank)  # dropout differs between processes; the first one's is that of one alone
    return Run(
        module=module,
        network=network,
        data=data,
        task=task,
        recipe=recipe,
        engine=engine,
        hooks=tuple(hooks),
        optimizers=[engine.optimizer(optimizer) for optimizer in optimizers],
        average=make_average(module, recipe.ema) if recipe.ema else None,
        order=torch.Generator().manual_seed(seed),
    )


def state_copy(module: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of a network's state dict."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
