"""One step on a copy of the network: what cannot be trained is refused before the first epoch."""

from __future__ import annotations

import copy
import inspect
from typing import TYPE_CHECKING

from bnfold.errors import InputRefused
from bnfold.sources.usercode import described, user_code

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from bnfold.training.data import DataSet
    from bnfold.training.tasks import Task

__all__ = ["input_samples", "rehearse"]


def rehearse(module: nn.Module, data: DataSet, task: Task, *, where: str) -> None:
    """Run one training step and one evaluation on two samples, on a copy of the network.

    Args:
        module: left as it is.
        data: the samples.
        task: checks the outputs.
        where: the model as the user named it.

    Raises:
        InputRefused: the network raises, has nothing to learn, or gives outputs that do not fit the task.
    """
    import torch

    batch = next(iter(data.batches("test", 2)))
    trial = copy.deepcopy(module)
    if not any(parameter.requires_grad for parameter in trial.parameters()):
        raise InputRefused("the network has no parameter to train", where=where, remedy="give a network with weights")
    try:
        with user_code(), torch.random.fork_rng(devices=[]):
            outputs = trial.train()(*batch.inputs)
            task.check(outputs, batch)
            for update in task.updates:
                update.loss(trial, batch).backward()  # type: ignore[no-untyped-call]  # unannotated in torch
            with torch.inference_mode():
                task.check(trial.eval()(*batch.inputs), batch)
    except InputRefused:
        raise
    except Exception as error:
        raise InputRefused(
            "the network raises in a training step",
            where=where,
            found=described(error),
            expected=f"a network that takes inputs of shape {', '.join(str(tuple(x.shape)) for x in batch.inputs)}",
            remedy="mend its `forward` or its INPUT_SHAPE",
        ) from error


def input_samples(module: nn.Module, data: DataSet, n_samples: int) -> dict[str, np.ndarray]:
    """The first test inputs, by the parameter of `forward` they go to: `torch.export` names inputs the same way."""
    names = list(inspect.signature(module.forward).parameters)
    inputs = next(iter(data.batches("test", n_samples))).inputs
    return {name: x.numpy() for name, x in zip(names, inputs, strict=False)}
