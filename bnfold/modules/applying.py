"""Put new parameters into a module, and take BatchNorms out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.modules.norms import replacement
from bnfold.sources.extras import require_torch

if TYPE_CHECKING:
    import torch
    from torch import nn

    from bnfold.modules.places import Place
    from bnfold.modules.writing import Vanished, Writing

__all__ = ["apply_writing", "materialise"]


def materialise(module: nn.Module) -> list[str]:
    """Store what parametrizations compute (weight and spectral norm, pruning masks) as plain parameters, in place.

    https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.parametrize.remove_parametrizations.html

    Returns:
        The places that were parametrized.
    """
    torch = require_torch()
    from torch.nn.utils import parametrize, prune
    from torch.nn.utils.spectral_norm import SpectralNorm
    from torch.nn.utils.weight_norm import WeightNorm

    done: list[str] = []
    with torch.no_grad():
        for path, part in list(module.named_modules()):
            if parametrize.is_parametrized(part):
                # Copies have their class in common, which is where the parametrized attributes are taken off.
                part.__class__ = type(type(part).__name__, type(part).__bases__, dict(type(part).__dict__))
                names = list(part.parametrizations)
                for name in names:
                    parametrize.remove_parametrizations(part, name, leave_parametrized=True)
                done += [f"{path}.{name}".lstrip(".") for name in names]
            for hook in list(part._forward_pre_hooks.values()):
                if isinstance(hook, WeightNorm):
                    torch.nn.utils.remove_weight_norm(part, hook.name)
                elif isinstance(hook, SpectralNorm):
                    torch.nn.utils.remove_spectral_norm(part, hook.name)
                elif isinstance(hook, prune.BasePruningMethod):
                    prune.remove(part, hook._tensor_name)  # type: ignore[no-untyped-call]
                else:
                    continue
                name = getattr(hook, "name", None) or getattr(hook, "_tensor_name", "")
                done.append(f"{path}.{name}".lstrip("."))
    return done


def apply_writing(module: nn.Module, writing: Writing) -> None:
    """Give a module its new parameters in their own types, and take the vanished BatchNorms out, in place.

    Tied parameters that still agree stay tied. Activations work in place no longer where a BatchNorm in front of them
    has made a tensor of its own out of one that others read. A BatchNorm whose forward does more than normalise, or
    that has hooks, stays and becomes the identity.
    """
    parts = dict(module.named_modules())
    tied: dict[int, list[tuple[np.ndarray, Any]]] = {}
    for place, array in writing.parameters.items():
        _put(parts[place.path], place, array, tied)
    if writing.shares_inputs:
        for part in parts.values():
            if getattr(part, "inplace", False) is True:
                part.inplace = False  # it would write into what others read
    for vanished in writing.vanished.values():
        path = vanished.path
        part = parts[path]
        left = replacement(part) if path and vanished.is_module else None
        if left is None:
            _make_identity(parts, vanished)
            continue
        left.train(part.training)
        for parent in list(module.modules()):
            for name, child in list(parent._modules.items()):
                if child is part:
                    parent._modules[name] = left


def _put(owner: Any, place: Place, array: np.ndarray, tied: dict[int, list[tuple[np.ndarray, Any]]]) -> None:
    torch = require_torch()
    old = getattr(owner, place.attribute, None)
    like = old if old is not None else _like(owner)
    if old is not None:
        for known, made in tied.get(id(old), []):
            if np.array_equal(known, array):
                setattr(owner, place.attribute, made)
                return
    tensor = torch.from_numpy(np.array(array)).to(like.dtype).to(like.device)
    if place.attribute in owner._buffers and old is not None:
        made = tensor
    else:
        made = torch.nn.Parameter(tensor, requires_grad=like.requires_grad)
    if old is not None:
        tied.setdefault(id(old), []).append((array, made))
    setattr(owner, place.attribute, made)


def _like(owner: Any) -> torch.Tensor:
    """A parameter or buffer of a layer, whose type and device a new one takes."""
    tensors = [*owner._parameters.values(), *owner._buffers.values()]
    like: torch.Tensor = next(tensor for tensor in tensors if tensor is not None and tensor.is_floating_point())
    return like


def _make_identity(parts: dict[str, Any], vanished: Vanished) -> None:
    """gamma = 1, beta = 0, mean = 0, variance = 1 - epsilon."""
    torch = require_torch()
    where = next(place.path for place in vanished.places if place is not None)
    epsilon = float(getattr(parts[where], "eps", vanished.epsilon))
    for place, value in zip(vanished.places, (1.0, 0.0, 0.0, 1.0 - epsilon), strict=True):
        owner = None if place is None else parts[place.path]
        old = None if place is None else getattr(owner, place.attribute, None)
        if place is None or owner is None or old is None:
            continue
        new = torch.full_like(old.detach(), value)
        is_buffer = place.attribute in owner._buffers
        made = new if is_buffer else torch.nn.Parameter(new, requires_grad=old.requires_grad)
        setattr(owner, place.attribute, made)
