"""What a module is, whatever it is called with: its number of parameters, its SHA-256, and whether they are healthy."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from bnfold.errors import InputRefused
from bnfold.sources.extras import require_torch
from bnfold.sources.healthy import refuse_bad_variance, refuse_not_finite

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn

__all__ = ["n_parameters", "refuse_lazy", "refuse_unhealthy", "sha256_of_module", "sha256_of_tensors"]


def refuse_lazy(module: nn.Module, where: str) -> None:
    """Refuse parameters of lazy modules that have not seen an input.

    Raises:
        InputRefused: names the first.
    """
    torch = require_torch()
    lazy = [
        name
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]
        if torch.nn.parameter.is_lazy(tensor)
    ]
    if lazy:
        raise InputRefused(
            "the network has parameters without a shape",
            where=where,
            found=lazy[0],
            remedy="run one forward pass first, so that lazy modules know their sizes",
        )


def refuse_unhealthy(module: nn.Module) -> None:
    """Refuse parameters that are not finite and running variances that are none.

    Raises:
        InputRefused: names the layers.
    """
    torch = require_torch()
    for name, buffer in module.named_buffers():
        layer, _, kind = name.rpartition(".")
        if kind == "running_var":
            refuse_bad_variance(layer or "(the network itself)", buffer.double().numpy())
    means = ((name, buffer) for name, buffer in module.named_buffers() if name.endswith("running_mean"))
    tensors = [*module.named_parameters(), *means]
    refuse_not_finite(
        (name, torch.isfinite(tensor.detach()).numpy()) for name, tensor in tensors if tensor.is_floating_point()
    )


def n_parameters(module: nn.Module) -> int:
    """The number of elements of the parameters, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


def sha256_of_module(module: nn.Module) -> str:
    """SHA-256 of name, dtype, shape and bytes of every parameter and buffer, sorted by name."""
    tensors: dict[str, torch.Tensor] = dict(module.named_parameters(remove_duplicate=False))
    tensors.update(module.named_buffers(remove_duplicate=False))
    return sha256_of_tensors(tensors)


def sha256_of_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of name, dtype, shape and bytes of every tensor, sorted by name."""
    torch = require_torch()
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
