"""What the report of a layer says, one fault at a time, and which dropout stands in front of which BatchNorm."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from bnfold.calibration.dropout import dropouts_in_front
from bnfold.calibration.health import layer_reports
from bnfold.calibration.layers import Statistics, batchnorms, read_statistics
from bnfold.records import LayerStatistics, RecalibrationReport


def _report(layer: nn.BatchNorm1d, after: Statistics | None = None, *, measured: bool = False) -> LayerStatistics:
    module = nn.Sequential(layer)
    before = {name: read_statistics(one) for name, one in batchnorms(module).items()}
    new = {} if after is None else {"0": after}
    (report,) = layer_reports(module, before, new, {"0": ("drop",)}, measured=measured)
    return report


def _layer(n_batches: int = 100) -> nn.BatchNorm1d:
    """Mean 2, variance 4, epsilon 0, after `n_batches` updates."""
    layer = nn.BatchNorm1d(4, eps=0.0)
    layer.running_mean.fill_(2.0)
    layer.running_var.fill_(4.0)
    layer.num_batches_tracked.fill_(n_batches)
    return layer


def test_drift_is_in_deviations_and_ratios_go_either_way() -> None:
    after = Statistics(np.array([2.0, 2.0, 2.0, 6.0]), np.array([4.0, 1.0, 8.0, 4.0]), 3)
    report = _report(_layer(), after)
    assert report.mean_drift == pytest.approx(1.0)  # one of four channels is off by 4 / sqrt(4)
    assert report.variance_ratio == 4.0
    assert report.reached
    assert report.dropouts == ("drop",)


@pytest.mark.parametrize(("n", "share"), [(1, 0.9), (20, 0.9**20), (100, 0.9**100)])
def test_initial_values_fade_with_the_momentum(n: int, share: float) -> None:
    assert _report(_layer(n)).initial_share == pytest.approx(share)
    assert _report(_layer(n), measured=True).initial_share == 0


def test_cumulative_mean_forgets_the_initial_values_at_once() -> None:
    layer = _layer(1)
    layer.momentum = None
    assert _report(layer).initial_share == 0
    layer.num_batches_tracked.fill_(0)
    assert _report(layer).initial_share == 1


def test_untouched_statistics() -> None:
    assert _report(nn.BatchNorm1d(3)).untouched
    assert _report(_layer(0)).untouched
    assert not _report(_layer(0), measured=True).untouched
    assert not _report(_layer(1)).untouched


def test_small_variances_and_gammas_are_counted() -> None:
    layer = _layer()
    layer.eps = 1e-3
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.0, 1e-4, -2.0, 0.5]))
    report = _report(layer, Statistics(np.full(4, 2.0), np.array([1e-2 * 0.99, 1.0, 2.0, 5e-3]), 3))
    assert (report.n_near_eps, report.min_var_over_eps) == (2, pytest.approx(5.0))
    assert (report.n_gamma_zero, report.n_gamma_small) == (1, 1)
    assert _report(nn.BatchNorm1d(3, affine=False)).n_gamma_zero == 0


def test_each_fault_is_one_sentence() -> None:
    good = _report(_layer(), Statistics(np.full(4, 2.0), np.full(4, 4.0), 3))
    good = dataclasses.replace(good, dropouts=())
    facts = {
        "source": Path("a"), "run": Path("b"), "written": True, "mode": "pooled", "data": "digits", "prior": 0.0,
        "n_samples": 2, "n_batches": 1, "goal": "accuracy", "before": {}, "after": {}, "target_before": {},
        "target_after": {}, "weights_sha256": None, "seconds": 0.0,
    }  # fmt: skip
    assert RecalibrationReport(layers=(good,), **facts).warnings == ()
    faults = {
        "untouched": {"untouched": True},
        "too few updates": {"initial_share": 0.02},
        "off by more": {"mean_drift": 0.3},
        "epsilon decides": {"n_near_eps": 1},
        "behind dropout (d)": {"dropouts": ("d",)},
        "gamma 0": {"n_gamma_small": 1},
        "does not call it": {"reached": False},
    }
    for text, change in faults.items():
        (warning,) = RecalibrationReport(layers=(dataclasses.replace(good, **change),), **facts).warnings
        assert text in warning
        assert warning.startswith("0: ")


class Functional(nn.Module):
    """Drops in the forward pass itself, and on one branch only."""

    def __init__(self, p: float = 0.3) -> None:
        super().__init__()
        self.p = p
        self.fc, self.clean, self.noisy, self.later = nn.Linear(3, 3), *(nn.BatchNorm1d(3) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        clean = self.clean(self.fc(x))
        noisy = self.noisy(functional.dropout(x, self.p, self.training) + clean)
        mask = torch.empty(len(x), 1).bernoulli_(0.9) if self.training else 1.0  # drop path, as timm writes it
        return self.later(noisy.relu()) * mask


def test_dropout_is_followed_through_the_operators() -> None:
    assert dropouts_in_front(Functional(), (torch.randn(4, 3),)) == {"noisy": ("",)}
    assert dropouts_in_front(Functional(p=0.0), (torch.randn(4, 3),)) == {}


def test_dropout_modules_have_names_and_the_nearest_norm_is_named() -> None:
    module = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 3), nn.ReLU(), nn.BatchNorm1d(3), nn.Linear(3, 3),
                           nn.BatchNorm1d(3), nn.Dropout(0.1))  # fmt: skip
    state, random = {k: v.clone() for k, v in module.state_dict().items()}, torch.get_rng_state()
    assert dropouts_in_front(module, (torch.randn(4, 3),)) == {"3": ("0",)}
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())
    del random


def test_random_depth_in_front_of_a_norm() -> None:
    class Path(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn = nn.BatchNorm1d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.bn(x + x * torch.empty(len(x), 1).bernoulli_(0.5))

    assert dropouts_in_front(Path(), (torch.randn(4, 3),)) == {"bn": ("",)}
