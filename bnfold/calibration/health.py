"""What each BatchNorm's statistics are worth, layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.calibration.layers import Statistics, batchnorms
from bnfold.records import MIN_VARIANCE_OVER_EPSILON, LayerStatistics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from bnfold.numerics.affine import Float64

__all__ = ["layer_reports"]

SMALL_GAMMA = 0.01
"""A channel whose |gamma| is below this share of its layer's largest carries next to nothing."""


def layer_reports(
    module: nn.Module,
    before: Mapping[str, Statistics],
    after: Mapping[str, Statistics],
    dropouts: Mapping[str, tuple[str, ...]],
    *,
    measured: bool,
) -> tuple[LayerStatistics, ...]:
    """One report for each BatchNorm with running statistics.

    Args:
        module: the network; momentum, epsilon and gamma are read from it.
        before: the statistics that were there, of every layer.
        after: the new ones, of the layers that run.
        dropouts: see `bnfold.calibration.dropout`.
        measured: whether `before` was measured as `after` is, and is no moving average.
    """
    return tuple(
        _layer_report(name, layer, before[name], after.get(name), dropouts.get(name, ()), measured=measured)
        for name, layer in batchnorms(module).items()
    )


def _layer_report(
    name: str,
    layer: Any,
    before: Statistics,
    after: Statistics | None,
    dropouts: tuple[str, ...],
    *,
    measured: bool,
) -> LayerStatistics:
    now = before if after is None else after
    spread_before, spread_now = before.var + layer.eps, now.var + layer.eps
    ratio = spread_now / spread_before
    gamma = None if layer.weight is None else np.abs(layer.weight.detach().double().cpu().numpy())
    fresh = bool((before.mean == 0).all() and (before.var == 1).all())
    return LayerStatistics(
        name=name,
        n_channels=before.mean.size,
        reached=after is not None,
        mean_drift=float(np.sqrt(np.mean((now.mean - before.mean) ** 2 / spread_now))),
        variance_ratio=float(np.maximum(ratio, 1 / ratio).max()),
        untouched=fresh or (before.n_batches == 0 and not measured),
        initial_share=0.0 if measured else _initial_share(layer.momentum, before.n_batches),
        min_var_over_eps=float(now.var.min() / layer.eps) if layer.eps else float("inf"),
        n_near_eps=int((now.var < MIN_VARIANCE_OVER_EPSILON * layer.eps).sum()),
        dropouts=dropouts,
        **_gamma_counts(gamma),
    )


def _initial_share(momentum: float | None, n_batches: int) -> float:
    """The weight of the initial 0 and 1 in a moving average after so many updates: (1 - momentum)^n."""
    if momentum is None:  # a plain mean over all batches
        return float(n_batches == 0)
    return float((1 - momentum) ** n_batches)


def _gamma_counts(gamma: Float64 | None) -> dict[str, int]:
    if gamma is None:
        return {"n_gamma_zero": 0, "n_gamma_small": 0}
    small = (gamma > 0) & (gamma < SMALL_GAMMA * gamma.max())
    return {"n_gamma_zero": int((gamma == 0).sum()), "n_gamma_small": int(small.sum())}
