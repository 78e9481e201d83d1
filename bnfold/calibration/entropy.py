"""How sure a classifier is: the mean entropy of its predictions, which needs no labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch
    from torch import nn

__all__ = ["mean_entropy"]


def mean_entropy(module: nn.Module, batches: Iterable[tuple[torch.Tensor, ...]]) -> float:
    """The mean of -sum_k p_k log p_k, p the softmax of the logits over axis 1, in nats, over samples and places.

    Wang et al., "Tent: Fully Test-Time Adaptation by Entropy Minimization" (2021), equation 1.

    Args:
        module: gives logits (N, n_classes, ...); left in eval mode.
        batches: inputs, first axis the sample.
    """
    import torch

    total, count = 0.0, 0
    module.eval()
    with torch.inference_mode():
        for batch in batches:
            log_p = module(*batch).double().log_softmax(1)
            entropies = -(log_p.exp() * log_p).sum(1)
            total += float(entropies.sum())
            count += entropies.numel()
    return total / count
