"""Methods that concern the BatchNorms of a run: statistics measured at the end, frozen statistics, sparse gammas."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from bnfold.calibration.layers import batchnorms, freeze
from bnfold.calibration.measure import measure_pooled
from bnfold.calibration.samples import N_SAMPLES, chosen_batches
from bnfold.errors import InputRefused
from bnfold.training.hooks import Hook, HookedRun
from bnfold.training.sparsity import count_zero_gammas, shrink_gammas

if TYPE_CHECKING:
    from bnfold.training.recipe import Recipe

__all__ = ["FrozenStatistics", "MeasuredStatistics", "SparseGammas", "batchnorm_hooks"]

logger = logging.getLogger("bnfold.training")

_READ_BATCH = 256


class MeasuredStatistics(Hook):
    """`precise_bn`: the run keeps statistics pooled over training images in place of moving averages."""

    def finish(self, run: HookedRun) -> None:
        """Measure them, with the weights that the run keeps."""
        if not batchnorms(run.module):
            return
        inputs = (batch.inputs for batch in run.data.batches("train", _READ_BATCH))
        batches = chosen_batches(inputs, N_SAMPLES, run.recipe.batch_size)
        measure_pooled(run.module, [tuple(x.to(run.engine.device) for x in batch) for batch in batches])


class FrozenStatistics(Hook):
    """`freeze_bn_after`: from that epoch on, BatchNorms normalise by their running statistics, which stay."""

    def __init__(self, after: int) -> None:
        self.after = after

    def begin_epoch(self, run: HookedRun) -> None:
        """Put the BatchNorms into eval mode, once so many epochs are done."""
        if run.epoch >= self.after:
            freeze(run.module)


class SparseGammas(Hook):
    """`l1_gamma`: see `bnfold.training.sparsity`."""

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def after_step(self, run: HookedRun) -> None:
        """Take the proximal step that belongs to the learning rate."""
        shrink_gammas(run.module, run.lr * self.strength)

    def finish(self, run: HookedRun) -> None:
        """Say how sparse it became."""
        n_zero, n_channels = count_zero_gammas(run.module)
        if run.engine.is_main:
            logger.info("l1_gamma: %d of %d channels of BatchNorms are exactly 0", n_zero, n_channels)


def batchnorm_hooks(recipe: Recipe) -> tuple[Hook, ...]:
    """The methods that a recipe asks for.

    Raises:
        InputRefused: they do not go together.
    """
    if recipe.l1_gamma and recipe.ema:
        raise InputRefused(
            "l1_gamma and ema exclude each other", found=f"l1_gamma {recipe.l1_gamma:g}, ema {recipe.ema:g}",
            expected="gammas that end at exactly 0, which a moving average never does", remedy="leave one of them out",
        )  # fmt: skip
    hooks: list[Hook] = []
    if recipe.l1_gamma:
        hooks.append(SparseGammas(recipe.l1_gamma))
    if recipe.freeze_bn_after is not None:
        hooks.append(FrozenStatistics(recipe.freeze_bn_after))
    if recipe.precise_bn:
        hooks.append(MeasuredStatistics())
    return tuple(hooks)
