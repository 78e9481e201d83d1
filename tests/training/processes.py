"""Run by torchrun (test_processes.py): trains small networks in this process and its fellows, prints what came out.

Prints one JSON object from the first process: for each network the number of different states among the processes, and
the weights.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from bnfold.training.data import Batch, MemoryData
from bnfold.training.engine import open_engine
from bnfold.training.loop import go_on
from bnfold.training.recipe import Recipe
from bnfold.training.run import begin
from bnfold.training.tasks import Classification, Update

if TYPE_CHECKING:
    from bnfold.training.tasks import Task

RECIPE = Recipe(epochs=2, batch_size=10, lr=0.01, accumulate=2, clip=0.5, weight_decay=0.0)


def data() -> MemoryData:
    """Two classes that the sign of the first feature tells apart; 45 samples, so that shares differ in size."""
    inputs = torch.randn(45, 4, generator=torch.Generator().manual_seed(1))
    split = Batch((inputs,), (inputs[:, 0] > 0).long())
    return MemoryData(splits={"train": split, "val": split, "test": split}, n_classes=2, facts={})


@dataclass(frozen=True)
class TwoUpdates(Classification):
    """Each layer descends the loss in an update of its own."""

    @property
    def updates(self) -> tuple[Update, ...]:
        """Those of the first and the last layer."""
        return tuple(
            Update(name, lambda m, i=i: m[i], lambda m, batch: self.loss(m(*batch.inputs), batch))
            for name, i in (("first", 0), ("last", -1))
        )


def train(module: nn.Module, task: Task, recipe: Recipe = RECIPE) -> tuple[int, dict[str, list[float]]]:
    """Train; return the number of different states among the processes, and this one's weights and statistics."""
    with open_engine() as engine:
        run = begin(module, data(), task, recipe, seed=0, engine=engine)
        for _ in go_on(run):
            pass
        state = {name: value.double().flatten().tolist() for name, value in module.state_dict().items()}
        return len(set(engine.gather(json.dumps(state)))), state


def network(*, norm: bool) -> nn.Module:
    """Two layers, the same at each call."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8) if norm else nn.ReLU(), nn.Linear(8, 2))


def main() -> dict[str, tuple[int, dict[str, list[float]]]]:
    """Train each network."""
    return {
        "plain": train(network(norm=False), Classification(2)),
        "two updates": train(network(norm=False), TwoUpdates(2)),
        "norm": train(network(norm=True), Classification(2)),
        "average": train(network(norm=True), Classification(2), Recipe(epochs=2, batch_size=8, ema=0.9)),
    }


if __name__ == "__main__":
    import os
    import sys

    found = main()
    if os.environ["RANK"] == "0":
        sys.stdout.write(json.dumps(found))
