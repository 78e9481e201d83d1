"""What moves the parameters: AdamW or SGD without decay on norms, a linear warm-up and a cosine, clipping."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import torch
    from torch import nn

    from bnfold.training.recipe import Recipe

__all__ = ["make_optimizer", "schedule", "set_rate"]


def make_optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser of all parameters that learn.

    Args:
        module: weight decay is on its weights of two or more dimensions, not on norms and biases.
        recipe: optimiser, learning rate, momentum and weight decay.
    """
    import torch

    in_norms = {id(parameter) for norm in _norms(module) for parameter in norm.parameters(recurse=False)}
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    decays = [parameter.ndim >= 2 and id(parameter) not in in_norms for parameter in parameters]
    groups = [
        {
            "params": [p for p, decay in zip(parameters, decays, strict=True) if decay],
            "weight_decay": recipe.weight_decay,
        },
        {"params": [p for p, decay in zip(parameters, decays, strict=True) if not decay], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0)
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=(recipe.beta1, 0.999))


def _norms(module: nn.Module) -> Iterable[nn.Module]:
    from torch import nn
    from torch.nn.modules.batchnorm import _NormBase

    return (m for m in module.modules() if isinstance(m, (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)))


def schedule(n_steps: int, warmup: float) -> Callable[[int], float]:
    """The factor on `lr` at each step: up in a line over `warmup * n_steps` steps, down to 0 as a half cosine."""
    n_warm = round(warmup * n_steps)

    def factor(step: int) -> float:
        if step < n_warm:
            return (step + 1) / n_warm
        return 0.5 * (1 + math.cos(math.pi * (step - n_warm) / max(1, n_steps - n_warm)))

    return factor


def set_rate(optimizers: Sequence[torch.optim.Optimizer], factor: float) -> float:
    """Set every learning rate to `factor` times the one its group was made with; return that of the first group."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
    return float(optimizers[0].param_groups[0]["lr"])
