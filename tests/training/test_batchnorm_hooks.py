"""Methods for BatchNorms in a run: measured and frozen statistics, gammas that become exactly 0."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from bnfold.calibration.layers import read_statistics
from bnfold.errors import InputRefused
from bnfold.sources.checkpoint import read_run
from bnfold.training.batchnorm_hooks import (
    FrozenStatistics,
    MeasuredStatistics,
    SparseGammas,
    batchnorm_hooks,
)
from bnfold.training.data import Batch, MemoryData
from bnfold.training.loop import fit
from bnfold.training.recipe import Recipe
from bnfold.training.sparsity import count_zero_gammas, shrink_gammas
from bnfold.training.tasks import make_task
from bnfold.workflows.fold_export import fold_export
from bnfold.workflows.recalibrate import recalibrate
from bnfold.workflows.train_model import train

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result


_NORMS = (1, 4, 8, 11)  # of vgg_bn


def _data(n: int = 64) -> MemoryData:
    """Two classes that the sign of the first of eight features tells apart."""
    inputs = 3 * torch.randn(n, 8, generator=torch.Generator().manual_seed(1)) + 2
    split = Batch((inputs,), (inputs[:, 0] > 2).long())
    return MemoryData(splits={"train": split, "val": split, "test": split}, n_classes=2, facts={})


def _trained(recipe: Recipe) -> nn.Sequential:
    torch.manual_seed(0)
    module = nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 2))
    data = _data()
    for _ in fit(module, data, make_task(recipe, data), recipe, seed=0, hooks=batchnorm_hooks(recipe)):
        pass
    return module


def test_measured_statistics_are_those_of_the_training_images() -> None:
    module = _trained(Recipe(epochs=1, batch_size=16, precise_bn=True))
    x = _data().splits["train"].inputs[0].double()
    np.testing.assert_allclose(module[0].running_mean, x.mean(0), rtol=1e-6)
    np.testing.assert_allclose(module[0].running_var, x.var(0), rtol=1e-6)
    moving = _trained(Recipe(epochs=1, batch_size=16))
    assert (moving[0].running_mean - x.mean(0)).abs().max() > 0.1


def test_frozen_statistics_stay() -> None:
    counts = [
        read_statistics(_trained(Recipe(epochs=3, batch_size=16, freeze_bn_after=after))[0]).n_batches
        for after in (0, 1, 2, 5)
    ]
    assert counts == [0, 4, 8, 12]


def test_networks_without_batchnorm_are_left_alone() -> None:
    recipe = Recipe(epochs=1, batch_size=16, precise_bn=True, freeze_bn_after=0, l1_gamma=0.1)
    data, module = _data(), nn.Linear(8, 2)
    assert len(list(fit(module, data, make_task(recipe, data), recipe, seed=0, hooks=batchnorm_hooks(recipe)))) == 1


def test_proximal_step_ends_at_exactly_zero() -> None:
    layer = nn.BatchNorm1d(4)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, -0.5, 0.25, -0.125]))
        layer.bias.fill_(1.0)
    frozen = nn.BatchNorm1d(2).requires_grad_(requires_grad=False)
    module = nn.Sequential(layer, nn.BatchNorm1d(3, affine=False), frozen)
    shrink_gammas(module, 0.25)
    assert layer.weight.tolist() == [0.25, -0.25, 0.0, 0.0]
    assert layer.bias.tolist() == [1.0, 1.0, 0.0, 0.0]
    assert frozen.weight.tolist() == [1.0, 1.0]
    assert count_zero_gammas(module) == (2, 6)


def test_useless_features_go_and_the_useful_one_stays() -> None:
    module = _trained(Recipe(epochs=60, batch_size=16, optimizer="sgd", lr=0.1, l1_gamma=0.1))
    assert module[0].weight[0] != 0
    assert count_zero_gammas(module)[0] >= 5


def test_hooks_follow_the_recipe() -> None:
    assert batchnorm_hooks(Recipe()) == ()
    kinds = [type(hook) for hook in batchnorm_hooks(Recipe(precise_bn=True, freeze_bn_after=0, l1_gamma=0.1))]
    assert kinds == [SparseGammas, FrozenStatistics, MeasuredStatistics]
    with pytest.raises(InputRefused, match="l1_gamma and ema exclude each other"):
        batchnorm_hooks(Recipe(l1_gamma=0.1, ema=0.9))


def test_options_of_the_command(tmp_path: Path, cli: Callable[..., Result]) -> None:
    options = ["--precise-bn", "--freeze-bn-after", 1, "--l1-gamma", 0.01]
    result = cli("train", "bnnet", "-o", tmp_path / "run", "--epochs", 2, *options)
    assert result.exit_code == 0, result.stderr
    assert "of 512 channels of BatchNorms are exactly 0" in result.stderr
    recipe = read_run(tmp_path / "run").metadata["recipe"]
    assert (recipe["precise_bn"], recipe["freeze_bn_after"], recipe["l1_gamma"]) == (True, 1, 0.01)
    report = recalibrate(tmp_path / "run", dry_run=True)
    assert max(layer.mean_drift for layer in report.layers) < 1e-5
    assert not any("too few" in warning or "untouched" in warning for warning in report.warnings)


def test_channels_that_became_zero_are_removed_exactly(tmp_path: Path) -> None:
    run = train("vgg_bn", tmp_path / "run", epochs=12, l1_gamma=0.5)
    state = read_run(tmp_path / "run").state
    left = {name: int((state[f"features.{name}.weight"] != 0).sum()) for name in _NORMS}
    assert sum(left.values()) < 0.8 * (16 + 16 + 32 + 32)
    assert run.metrics["test"]["accuracy"] > 0.9
    report = fold_export(tmp_path / "run", tmp_path / "out")
    assert report.passed
    assert report.ledger.kept == 0
    graph = onnx.load(tmp_path / "out" / "model.onnx").graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    convolutions = [shapes[node.input[1]] for node in graph.node if node.op_type == "Conv"]
    assert [shape[0] for shape in convolutions] == [16 * math.ceil(n / 16) for n in left.values()]
    assert report.graph.macs_after < report.graph.macs_before
