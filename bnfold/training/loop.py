"""The training loop, on one page.

Nothing here knows the task or the data set: the losses of `task.updates` are minimised over `data.batches`, and
`task.tally` is summed. Other methods take part through `hooks`. Where it computes, and on how many processes, is the
engine's.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bnfold.training.agreement import agree
from bnfold.training.engine import open_engine
from bnfold.training.optimise import schedule, set_rate
from bnfold.training.run import Run, begin, state_copy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import torch
    from torch import nn

    from bnfold.training.data import Batch, DataSet, Split
    from bnfold.training.engine import Engine
    from bnfold.training.hooks import Hook
    from bnfold.training.recipe import Recipe
    from bnfold.training.tasks import Task, Update

__all__ = ["EpochFacts", "evaluate", "fit", "go_on"]

_EVAL_BATCH = 256
_CHECK_EVERY = 25  # steps between looks at the loss: on a GPU each one waits for it


def _nothing(run: Run) -> None:
    """What happens behind a step or an epoch, if the caller wants nothing to."""
    del run


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
    hooks: Sequence[Hook] = (),
    on_step: Callable[[Run], None] = _nothing,
) -> Iterator[EpochFacts]:
    """Train a network in place in this process on the CPU, one epoch for each value taken from the iterator.

    Args:
        module: trained in place; left in eval mode.
        data: its `train` split is learnt, its `val` split measured.
        task: the loss and the metrics.
        recipe: epochs, batch size and optimiser.
        seed: of the order of the samples; parameters and dropout follow PyTorch's own random state.
        hooks: other methods that take part.
        on_step: called after each step.

    Raises:
        GateFailed: the loss is NaN or infinite.
    """
    with open_engine(precision=recipe.precision) as engine:
        yield from go_on(begin(module, data, task, recipe, seed=seed, engine=engine, hooks=hooks), on_step=on_step)


def go_on(
    run: Run, *, on_step: Callable[[Run], None] = _nothing, on_epoch: Callable[[Run], None] = _nothing
) -> Iterator[EpochFacts]:
    """Train a run to its end, from wherever it stands; `on_epoch` is called behind each epoch, before its facts."""
    start = time.perf_counter() - (run.history[-1]["seconds"] if run.history else 0.0)
    factor = schedule(run.recipe.epochs * run.data.n_batches("train", run.recipe.batch_size), run.recipe.warmup)
    while not run.finished:
        run.module.train()
        for hook in run.hooks:
            hook.begin_epoch(run)
        for batch in run.batches():
            run.lr = set_rate(run.optimizers, factor(run.step))
            run.losses.append(_step(run, batch))
            for hook in run.hooks:
                hook.after_step(run)
            if run.average is not None:
                run.average.update_parameters(run.module)
            run.step += 1
            run.in_epoch += 1
            if run.in_epoch % _CHECK_EVERY == 0:
                run.mean_loss(_CHECK_EVERY)
            on_step(run)
        yield _finish_epoch(run, start, on_epoch)
    _finish(run)


def _finish_epoch(run: Run, start: float, on_epoch: Callable[[Run], None]) -> EpochFacts:
    train_loss = run.mean_loss()
    for network in (run.module,) if run.average is None else (run.module, run.measured):
        agree(run.engine, network)
    val = evaluate(run.measured, run.data, run.task, "val", engine=run.engine)
    run.require_finite(val["loss"], "validation")
    run.epoch, run.in_epoch, run.losses, run.order_before = run.epoch + 1, 0, [], None
    facts = EpochFacts(run.epoch, run.step, run.lr, train_loss, val, time.perf_counter() - start)
    run.note_best(val)
    run.history.append(facts.line())
    on_epoch(run)
    return facts


def _step(run: Run, batch: Batch) -> torch.Tensor:
    """Every update of the task once; returns this process's weighted share of the mean of their losses."""
    import torch

    losses = [
        _update(run, update, optimizer, batch)
        for update, optimizer in zip(run.task.updates, run.optimizers, strict=True)
    ]
    return losses[0] if len(losses) == 1 else torch.stack(losses).mean()


def _update(run: Run, update: Update, optimizer: torch.optim.Optimizer, batch: Batch) -> torch.Tensor:
    """One step of an optimiser on its part of the network; returns this process's weighted share of the loss."""
    import torch

    engine, part = run.engine, update.part(run.module)
    network = run.network if part is run.module else run.module
    run.module.zero_grad()
    losses = []
    for i, (share, weight) in enumerate(engine.shares(batch, run.recipe.accumulate), start=1):
        with engine.joined(network, last=i == run.recipe.accumulate):
            with engine.autocast():
                loss = update.loss(network, share)
            loss = loss if weight == 1 else loss * weight
            engine.accelerator.backward(loss)
        losses.append(loss.detach())
    if network is not run.network:
        engine.average_gradients(part)
    if run.recipe.clip:
        engine.accelerator.clip_grad_norm_(part.parameters(), run.recipe.clip)
    optimizer.step()
    return losses[0] if len(losses) == 1 else torch.stack(losses).sum()


def _finish(run: Run) -> None:
    """Put the weights that the run keeps into the user's network, and the other ones into `run.spare`."""
    if run.recipe.keep == "best":
        run.spare = state_copy(run.measured)
        run.module.load_state_dict(run.best_state)
    else:
        run.spare = run.best_state
        if run.average is not None:
            run.module.load_state_dict(run.measured.state_dict())
    run.module.eval()
    for hook in run.hooks:
        hook.finish(run)
    agree(run.engine, run.module)


def evaluate(
    module: nn.Module, data: DataSet, task: Task, split: Split, *, engine: Engine | None = None
) -> Mapping[str, float]:
    """The task's metrics over a whole split, in eval mode, which the network is left in.

    The processes of an engine share the batches; their tallies are summed in the order of the batches, so that the
    metrics do not depend on the number of processes.
    """
    import torch

    rank, world = (0, 1) if engine is None else (engine.rank, engine.world)
    module.eval()
    with torch.inference_mode():
        batches = data.batches(split, _EVAL_BATCH)
        mine = {i: _tally(module, task, batch) for i, batch in enumerate(batches) if i % world == rank}
    everyone = [mine] if engine is None else engine.gather(mine)
    tallies = {index: tally for tallies in everyone for index, tally in tallies.items()}
    return task.metrics(torch.stack([tallies[index] for index in sorted(tallies)]).sum(0))


def _tally(module: nn.Module, task: Task, batch: Batch) -> torch.Tensor:
    from accelerate.utils import send_to_device

    placed = send_to_device(batch, next(module.parameters()).device)
    return task.tally(module(*placed.inputs), placed).cpu()
