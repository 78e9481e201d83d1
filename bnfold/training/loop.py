"""The training loop, on one page: AdamW or SGD, a linear warm-up and a cosine, metrics of every epoch.

Nothing here knows the task or the data set: `task.updates` are done for each of `data.batches`, each by an optimizer of
its own, and `task.tally` is summed.
The loop works on the device its network lies on.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bnfold.errors import GateFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import torch
    from torch import nn

    from bnfold.training.data import Batch, DataSet, Split
    from bnfold.training.recipe import Recipe
    from bnfold.training.tasks import Task

__all__ = ["EpochFacts", "evaluate", "fit"]

_EVAL_BATCH = 256


@dataclass(frozen=True)
class EpochFacts:
    """One epoch: the number of steps so far, the mean training loss, the metrics of the validation split."""

    epoch: int
    step: int
    lr: float
    train_loss: float
    val: Mapping[str, float]
    seconds: float

    def line(self) -> dict[str, Any]:
        """The line of metrics.jsonl."""
        return {"event": "epoch", **asdict(self)}


def fit(
    module: nn.Module,
    data: DataSet,
    task: Task,
    recipe: Recipe,
    *,
    seed: int,
    on_step: Callable[[], None] = lambda: None,
) -> Iterator[EpochFacts]:
    """Train a network in place, one epoch for each value taken from the iterator.

    Args:
        module: trained in place; left in eval mode.
        data: its `train` split is learnt, its `val` split measured.
        task: the loss and the metrics.
        recipe: epochs, batch size and optimiser.
        seed: of the order of the samples; parameters and dropout follow PyTorch's own random state.
        on_step: called after each step.

    Raises:
        GateFailed: the loss is NaN or infinite.
    """
    import torch

    start = time.perf_counter()
    steps_per_epoch = data.n_batches("train", recipe.batch_size)
    optimizers = [_optimizer(update.part(module), recipe) for update in task.updates]
    schedule = _schedule(recipe.epochs * steps_per_epoch, recipe.warmup)
    schedulers = [torch.optim.lr_scheduler.LambdaLR(optimizer, schedule) for optimizer in optimizers]
    order = torch.Generator().manual_seed(seed)
    for epoch in range(1, recipe.epochs + 1):
        module.train()
        losses = []
        for batch in data.batches("train", recipe.batch_size, shuffle=order):
            placed = _placed(batch, module)
            lr = float(schedulers[0].get_last_lr()[0])
            for update, optimizer, scheduler in zip(task.updates, optimizers, schedulers, strict=True):
                loss = update.loss(module, placed)
                module.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward unannotated
                optimizer.step()
                scheduler.step()
                losses.append(loss.detach())
            on_step()
        train_loss = torch.stack(losses).mean().item()
        _require_finite(train_loss, "training", epoch, recipe)
        val = evaluate(module, data, task, "val")
        _require_finite(val["loss"], "validation", epoch, recipe)
        yield EpochFacts(epoch, epoch * steps_per_epoch, lr, train_loss, val, time.perf_counter() - start)


def evaluate(module: nn.Module, data: DataSet, task: Task, split: Split) -> Mapping[str, float]:
    """The task's metrics over a whole split, in eval mode, which the network is left in."""
    import torch

    module.eval()
    with torch.inference_mode():
        placed = (_placed(batch, module) for batch in data.batches(split, _EVAL_BATCH))
        tallies = [task.tally(module(*batch.inputs), batch) for batch in placed]
    return task.metrics(torch.stack(tallies).sum(0))


def _optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Weight decay on weights; not on norms and biases, which have one dimension."""
    import torch

    parameters = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0)
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=(recipe.beta1, 0.999))


def _schedule(n_steps: int, warmup: float) -> Callable[[int], float]:
    """The factor on `lr` at each step: up in a line over `warmup * n_steps` steps, down to 0 as a half cosine."""
    n_warm = round(warmup * n_steps)

    def factor(step: int) -> float:
        if step < n_warm:
            return (step + 1) / n_warm
        return 0.5 * (1 + math.cos(math.pi * (step - n_warm) / max(1, n_steps - n_warm)))

    return factor


def _placed(batch: Batch, module: nn.Module) -> Batch:
    """The batch on the network's device."""
    device = next(module.parameters()).device
    return batch._replace(inputs=tuple(x.to(device) for x in batch.inputs), targets=batch.targets.to(device))


def _require_finite(loss: float, name: str, epoch: int, recipe: Recipe) -> None:
    if math.isfinite(loss):
        return
    raise GateFailed(
        f"the {name} loss is no longer a finite number",
        where=f"epoch {epoch} of {recipe.epochs}",
        found=str(loss),
        remedy=f"train with a smaller --lr (it was {recipe.lr:g}) or more warm-up (--set warmup=0.3)",
    )
