"""The BatchNorms of a network that keep running statistics, and these statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm

    from bnfold.numerics.affine import Float64

__all__ = ["Statistics", "batchnorms", "freeze", "read_statistics", "write_statistics"]


@dataclass(frozen=True)
class Statistics:
    """Running mean (C,) and variance (C,) of one BatchNorm, and the number of batches they come from."""

    mean: Float64
    var: Float64
    n_batches: int


def batchnorms(module: nn.Module) -> Mapping[str, _BatchNorm]:
    """Every BatchNorm (1d to 3d, synchronized, and subclasses) with running statistics, by its name in the network."""
    from torch.nn.modules.batchnorm import _BatchNorm

    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, _BatchNorm) and layer.running_mean is not None and layer.running_var is not None
    }


def freeze(module: nn.Module) -> None:
    """Put the BatchNorms into eval mode, so that a training step neither uses nor changes the statistics of a batch.

    What is inside a BatchNorm (timm's BatchNormAct2d holds an activation and a dropout) keeps its mode.
    """
    for layer in batchnorms(module).values():
        layer.training = False


def read_statistics(layer: _BatchNorm) -> Statistics:
    """The running statistics of a layer of `batchnorms`, in float64."""
    tracked = layer.num_batches_tracked
    return Statistics(_array(layer.running_mean), _array(layer.running_var), 0 if tracked is None else int(tracked))


def write_statistics(layer: _BatchNorm, statistics: Statistics) -> None:
    """Put statistics into a layer, rounded to its dtype."""
    import torch

    with torch.no_grad():
        _tensor(layer.running_mean).copy_(torch.from_numpy(np.asarray(statistics.mean)))
        _tensor(layer.running_var).copy_(torch.from_numpy(np.asarray(statistics.var)))
        if layer.num_batches_tracked is not None:
            layer.num_batches_tracked.fill_(statistics.n_batches)


def _array(buffer: torch.Tensor | None) -> Float64:
    return np.array(_tensor(buffer).detach().double().cpu().numpy(), dtype=np.float64)


def _tensor(buffer: torch.Tensor | None) -> torch.Tensor:
    if buffer is None:
        raise TypeError("the layer keeps no running statistics")
    return buffer
