"""Training that ends with channels that are exactly 0: an L1 penalty on the gammas of BatchNorms, by its proximal step.

    gamma <- sign(gamma) max(|gamma| - lr lambda, 0)        behind every step of the optimiser
    beta  <- 0                                              where gamma is 0

Liu et al., "Learning Efficient Convolutional Networks through Network Slimming" (2017, arXiv:1708.06519), equation 1,
with subgradients, which hover around 0. The proximal operator (Parikh and Boyd, "Proximal Algorithms", 2014, section
6.5.2) ends at 0 itself. With gamma = 0 a channel is the constant beta. The second line, which is ours, makes that
constant 0: a ReLU behind it gives 0, which is the value that zero padding adds, so that the fold core can take the
channel out in front of padded convolutions too. PyTorch's ReLU has no gradient at 0: such a channel stays as it is.

With adamw the step is as long as its decoupled weight decay would be, lr lambda, not scaled by the second moment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

__all__ = ["count_zero_gammas", "shrink_gammas"]


def shrink_gammas(module: nn.Module, by: float) -> None:
    """Move every gamma of a BatchNorm by `by` towards 0, in place, and stop there; beta is 0 where gamma is."""
    import torch
    from torch.nn import functional
    from torch.nn.modules.batchnorm import _BatchNorm

    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, _BatchNorm) and layer.affine and layer.weight.requires_grad:
                layer.weight.copy_(functional.softshrink(layer.weight, by))
                layer.bias[layer.weight == 0] = 0.0


def count_zero_gammas(module: nn.Module) -> tuple[int, int]:
    """How many channels of all affine BatchNorms have gamma = 0, and how many there are."""
    from torch.nn.modules.batchnorm import _BatchNorm

    gammas = [layer.weight for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.affine]
    return sum(int((gamma == 0).sum()) for gamma in gammas), sum(gamma.numel() for gamma in gammas)
