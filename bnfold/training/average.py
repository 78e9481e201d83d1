"""A moving average of the weights (Polyak and Juditsky 1992; as in Szegedy et al. 2015, section 8).

    average <- average + (1 - d) (weights - average),    d = min(decay, (1 + n) / (10 + n)) after n steps

Running statistics are averaged with the same weights as the parameters: they belong to the activations of networks that
the average is made of, and a copy of the newest would belong to one that is not kept. Counters are copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import nn
    from torch.optim.swa_utils import AveragedModel

__all__ = ["make_average"]


def make_average(module: nn.Module, decay: float) -> AveragedModel:
    """A copy of the network that follows it: `average.update_parameters(module)` behind every step.

    Args:
        module: the network as it is trained; the first update copies it.
        decay: the largest d, from 0 to below 1.
    """
    from torch.optim.swa_utils import AveragedModel

    def follow(
        averages: Sequence[torch.Tensor], values: Sequence[torch.Tensor], n_averaged: torch.Tensor | int
    ) -> None:
        n = int(n_averaged)
        weight = 1 - min(decay, (1 + n) / (10 + n))
        for average, value in zip(averages, values, strict=True):
            if average.is_floating_point():
                average.lerp_(value, weight)
            else:
                average.copy_(value)

    return AveragedModel(module, multi_avg_fn=follow, use_buffers=True)
