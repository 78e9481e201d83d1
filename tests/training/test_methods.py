"""What a recipe may ask of the loop beside its optimiser: hooks, averages, parts of a batch, clipping, early stop."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from bnfold.errors import EnvironmentNotReady, InputRefused
from bnfold.training.average import make_average
from bnfold.training.data import Batch, MemoryData
from bnfold.training.engine import open_engine
from bnfold.training.hooks import Hook, HookedRun
from bnfold.training.loop import evaluate, fit, go_on
from bnfold.training.optimise import make_optimizer
from bnfold.training.recipe import Recipe
from bnfold.training.run import begin
from bnfold.training.tasks import make_task

if TYPE_CHECKING:
    from collections.abc import Sequence


def _data(n: int = 40, *, noise: float = 0.0) -> MemoryData:
    """Two classes that the sign of the first feature tells apart; labels of the validation part may be noise."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(n, 4, generator=generator)
    targets = (inputs[:, 0] > 0).long()
    flipped = torch.rand(n, generator=generator) < noise
    val = Batch((inputs,), targets ^ flipped.long())
    split = Batch((inputs,), targets)
    return MemoryData(splits={"train": split, "val": val, "test": split}, n_classes=2, facts={})


def _network(*, norm: bool = True) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm1d(4) if norm else nn.Identity(), nn.Linear(4, 2))


def _weights(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def _trained(recipe: Recipe, *, norm: bool = True, hooks: Sequence[Hook] = ()) -> tuple[nn.Module, list[Any]]:
    data, module = _data(), _network(norm=norm)
    return module, list(fit(module, data, make_task(recipe, data), recipe, seed=0, hooks=hooks))


class _Recorder(Hook):
    def __init__(self) -> None:
        self.calls: list[tuple[str, int, bool]] = []

    def begin_epoch(self, run: HookedRun) -> None:
        self.calls.append(("begin", run.epoch, run.module.training))

    def after_step(self, run: HookedRun) -> None:
        self.calls.append(("step", run.step, run.lr > 0))

    def finish(self, run: HookedRun) -> None:
        self.calls.append(("finish", run.epoch, run.module.training))


def test_hooks_are_called_in_their_places() -> None:
    hook = _Recorder()
    _trained(Recipe(epochs=2, batch_size=20), hooks=[hook])
    assert hook.calls == [
        ("begin", 0, True), ("step", 0, True), ("step", 1, True),
        ("begin", 1, True), ("step", 2, True), ("step", 3, True),
        ("finish", 2, False),
    ]  # fmt: skip


def test_a_hook_behind_the_last_epoch_changes_what_is_kept() -> None:
    class Zero(Hook):
        def finish(self, run: HookedRun) -> None:
            with torch.no_grad():
                run.module[1].bias.zero_()

    module, _ = _trained(Recipe(epochs=1, batch_size=20, ema=0.9), hooks=[Zero()])
    assert not module[1].bias.any()


def test_parts_of_a_batch_give_its_gradient() -> None:
    """15 images in parts of 4, 4, 4 and 3: each counts the same. AdamW would not see a gradient of another size."""
    recipe = Recipe(epochs=2, batch_size=15, optimizer="sgd", lr=0.1)
    whole, _ = _trained(recipe, norm=False)
    parts, _ = _trained(dataclasses.replace(recipe, accumulate=4), norm=False)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        # float32 sums of 15 products of numbers around 1 in another order, times the rate, in each of 4 steps
        np.testing.assert_allclose(a.detach(), b.detach(), rtol=0, atol=4 * 0.1 * 15 * np.finfo(np.float32).eps)


def test_parts_of_one_image_are_refused() -> None:
    with pytest.raises(
        InputRefused, match=r"no variance over one image in a step of 8 images in 5 parts.*--batch-size 10"
    ):
        _trained(Recipe(epochs=1, batch_size=8, accumulate=5))


def test_a_training_split_of_one_image_is_refused() -> None:
    recipe, data, module = Recipe(epochs=1, batch_size=8), _data(1), _network()
    with pytest.raises(InputRefused, match="no variance over one image"):
        list(fit(module, data, make_task(recipe, data), recipe, seed=0))


def test_clipping_bounds_the_step() -> None:
    recipe = Recipe(
        epochs=1, batch_size=40, optimizer="sgd", momentum=0.0, lr=1.0, warmup=0.0, weight_decay=0.0, clip=1e-3
    )
    before = _network()
    module, _ = _trained(recipe)
    moved = [a.detach() - b.detach() for a, b in zip(module.parameters(), before.parameters(), strict=True)]
    assert torch.cat([m.flatten() for m in moved]).norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_average_follows_with_a_warm_up() -> None:
    module = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    average = make_average(module, 0.5)
    values, expected = [8.0, 4.0, 2.0, 1.0, 0.0], 8.0
    for n, value in enumerate(values):
        with torch.no_grad():
            module[0].weight.fill_(value)
            module[1].running_var.fill_(value)
            module[1].num_batches_tracked.fill_(n + 1)
        average.update_parameters(module)
        if n:
            expected += (1 - min(0.5, (1 + n) / (10 + n))) * (value - expected)
    assert average.module[0].weight.item() == pytest.approx(expected)
    assert average.module[1].running_var.item() == pytest.approx(expected)
    assert average.module[1].num_batches_tracked.item() == 5


def test_the_average_is_measured_and_kept() -> None:
    recipe = Recipe(epochs=3, batch_size=8, lr=0.05, ema=0.9)
    raw, _ = _trained(Recipe(epochs=3, batch_size=8, lr=0.05))
    module, epochs = _trained(recipe)
    data = _data()
    assert epochs[-1].val == evaluate(module, data, make_task(recipe, data), "val")
    assert not torch.equal(module[1].weight, raw[1].weight)


def test_best_weights_and_early_stop() -> None:
    data = _data(noise=0.4)
    recipe = Recipe(epochs=60, batch_size=8, lr=0.3, patience=3, keep="best", warmup=0.0)
    task, module = make_task(recipe, data), _network()
    with open_engine() as engine:
        run = begin(module, data, task, recipe, seed=0, engine=engine)
        epochs = list(go_on(run))
    assert len(epochs) < 60
    keys = [(facts.val["accuracy"], -facts.val["loss"]) for facts in epochs]
    assert run.best_epoch == 1 + keys.index(max(keys)) == len(epochs) - 3
    assert evaluate(module, data, task, "val") == epochs[run.best_epoch - 1].val
    last = _network()
    last.load_state_dict(run.spare)
    assert evaluate(last, data, task, "val") == epochs[-1].val


def test_norms_of_two_dimensions_do_not_decay() -> None:
    module = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm((2, 2)))
    groups = make_optimizer(module, Recipe(weight_decay=0.5)).param_groups
    assert [[tuple(p.shape) for p in group["params"]] for group in groups] == [[(4, 4)], [(4,), (2, 2), (2, 2)]]


def test_bf16_learns_and_leaves_float32_parameters() -> None:
    module, epochs = _trained(Recipe(epochs=15, batch_size=8, lr=0.05, precision="bf16"))
    full, _ = _trained(Recipe(epochs=15, batch_size=8, lr=0.05))
    assert {value.dtype for value in module.parameters()} == {torch.float32}
    assert epochs[-1].val["accuracy"] > 0.9
    assert not torch.equal(module[1].weight, full[1].weight)
    assert "forward" not in vars(module)


def test_fp16_needs_a_gpu() -> None:
    with pytest.raises(EnvironmentNotReady, match=r"fp16 needs a GPU.*bf16"):
        _trained(Recipe(precision="fp16"))
