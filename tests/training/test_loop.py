"""The loop: its schedule, its weight decay, what it calls a failure, and the metrics it reports."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from bnfold.errors import GateFailed, InputRefused
from bnfold.training.data import Batch, MemoryData
from bnfold.training.loop import evaluate, fit
from bnfold.training.optimise import make_optimizer, schedule
from bnfold.training.recipe import Recipe
from bnfold.training.rehearsal import input_samples, rehearse
from bnfold.training.tasks import Classification, make_task


def _data(n: int = 40) -> MemoryData:
    """Two classes that the sign of the first feature tells apart."""
    inputs = torch.randn(n, 4, generator=torch.Generator().manual_seed(1))
    split = Batch((inputs,), (inputs[:, 0] > 0).long())
    return MemoryData(splits={"train": split, "val": split, "test": split}, n_classes=2, facts={})


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_schedule_rises_in_a_line_and_falls_to_nothing() -> None:
    factor = schedule(100, 0.1)
    np.testing.assert_allclose([factor(step) for step in range(10)], np.arange(1, 11) / 10)
    falling = [factor(step) for step in range(10, 100)]
    assert falling[0] == 1
    assert falling == sorted(falling, reverse=True)
    assert 0 < falling[-1] < 1e-3


@pytest.mark.parametrize(("n_steps", "warmup"), [(1, 0.0), (1, 0.9), (3, 0.99), (2, 0.5)])
def test_schedule_of_a_short_run_never_stands_still(n_steps: int, warmup: float) -> None:
    factor = schedule(n_steps, warmup)
    assert all(0 < factor(step) <= 1 for step in range(n_steps))


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_norms_and_biases_do_not_decay(name: str) -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    decay = {
        id(parameter): group["weight_decay"]
        for group in make_optimizer(module, Recipe(optimizer=name, weight_decay=0.5)).param_groups
        for parameter in group["params"]
    }
    assert {key: decay[id(parameter)] for key, parameter in module.named_parameters()} == {
        "0.weight": 0.5, "0.bias": 0.0, "1.weight": 0.0, "1.bias": 0.0, "2.weight": 0.5, "2.bias": 0.0,
    }  # fmt: skip


def test_learning_and_reporting() -> None:
    data, module, steps = _data(), _network(), []
    task = make_task(Recipe(), data)
    recipe = Recipe(epochs=15, batch_size=8, lr=0.05)
    before = evaluate(module, data, task, "val")
    epochs = list(fit(module, data, task, recipe, seed=0, on_step=lambda run: steps.append(run.step)))
    assert [facts.epoch for facts in epochs] == list(range(1, 16))
    assert [facts.step for facts in epochs] == list(range(5, 80, 5))
    assert steps == list(range(1, 76))
    assert epochs[-1].val["loss"] < 0.5 * before["loss"]
    assert epochs[-1].val == evaluate(module, data, task, "val")
    assert not module.training


def test_order_of_the_samples_follows_the_seed() -> None:
    data, recipe = _data(), Recipe(epochs=2, batch_size=8)
    losses = []
    for seed in (3, 3, 4):
        module = _network()
        torch.manual_seed(len(losses))  # the order is not drawn from the state that dropout uses
        losses.append([facts.train_loss for facts in fit(module, data, make_task(recipe, data), recipe, seed=seed)])
    assert losses[0] == losses[1] != losses[2]


def test_loss_that_is_no_number_is_a_failure() -> None:
    data = _data()
    recipe = Recipe(optimizer="sgd", lr=1e30, warmup=0.0, batch_size=8)
    with pytest.raises(GateFailed, match=r"loss is no longer a finite number in epoch 1 of 20: found nan; .*--lr"):
        list(fit(_network(), data, make_task(recipe, data), recipe, seed=0))


def test_weights_broken_by_the_last_step_are_a_failure() -> None:
    data = _data()
    recipe = Recipe(optimizer="sgd", lr=1e30, momentum=0.0, warmup=0.0, epochs=1, batch_size=40)
    module = nn.Sequential(nn.Linear(4, 1000), nn.Linear(1000, 2))
    with pytest.raises(GateFailed, match="validation loss"):
        list(fit(module, data, make_task(recipe, data), recipe, seed=0))


def test_metrics_are_the_sums_over_batches() -> None:
    outputs = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    targets = torch.tensor([0, 1, 1])
    task = Classification(n_classes=2, label_smoothing=0.3)
    parts = [task.tally(outputs[a:b], Batch((outputs[a:b],), targets[a:b])) for a, b in ((0, 2), (2, 3))]
    metrics = task.metrics(torch.stack(parts).sum(0))
    wrong = [math.log1p(math.exp(-2)), math.log1p(math.exp(-1)), 3 + math.log1p(math.exp(-3))]
    assert metrics["accuracy"] == pytest.approx(2 / 3)
    assert metrics["loss"] == pytest.approx(sum(wrong) / 3, rel=1e-6)


def test_unknown_task_suggests_the_nearest() -> None:
    with pytest.raises(InputRefused, match="did you mean classification"):
        make_task(Recipe(task="clasification"), _data())


class _TrainOnly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        if not self.training:
            raise RuntimeError("only in training")
        out: torch.Tensor = self.fc(features)
        return out


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Linear(4, 3), r"found \(2, 3\), expected logits of shape \(2, 2\)"),
        (nn.Linear(5, 2), "raises in a training step in here: found RuntimeError"),
        (nn.LSTM(4, 2), "found tuple"),
        (nn.Identity(), "no parameter to train"),
        (_TrainOnly(), "only in training"),
    ],
    ids=["classes", "input", "tuple", "no parameters", "eval"],
)
def test_what_cannot_be_trained_is_refused_before(module: nn.Module, message: str) -> None:
    data = _data()
    with pytest.raises(InputRefused, match=message):
        rehearse(module, data, make_task(Recipe(), data), where="here")


def test_rehearsal_leaves_no_trace() -> None:
    data, module = _data(), nn.Sequential(_network(), nn.Dropout())
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.random.get_rng_state()
    rehearse(module, data, make_task(Recipe(), data), where="here")
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_samples_are_named_as_the_parameter_of_forward() -> None:
    samples = input_samples(_TrainOnly(), _data(), 7)
    assert list(samples) == ["features"]
    assert samples["features"].shape == (7, 4)
    assert samples["features"].dtype == np.float32
