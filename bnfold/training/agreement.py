"""Processes that each normalise over their own images agree on the statistics.

A running mean is linear in the means of the batches, and a running variance averages unbiased estimates: their means
over the processes are those of a process that has seen all images, the variance's in expectation. They are taken in
float64 and in the order of the processes, so that all get the same bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from bnfold.training.engine import Engine

__all__ = ["agree"]


def agree(engine: Engine, module: nn.Module) -> None:
    """Give all processes the same buffers: the mean of the running statistics, the first process's of others."""
    import torch

    if engine.world == 1:
        return
    statistics = _running_statistics(module)
    mine = {name: buffer.cpu() for name, buffer in module.named_buffers()}
    everyone = engine.gather(mine)
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            values = [buffers[name] for buffers in everyone]
            mean = torch.stack([value.double() for value in values]).mean(0) if name in statistics else values[0]
            buffer.copy_(mean)


def _running_statistics(module: nn.Module) -> set[str]:
    """The names of all running means and variances."""
    from torch.nn.modules.batchnorm import _NormBase

    return {
        f"{prefix}.{name}" if prefix else name
        for prefix, layer in module.named_modules()
        if isinstance(layer, _NormBase)
        for name in ("running_mean", "running_var")
        if getattr(layer, name) is not None
    }
