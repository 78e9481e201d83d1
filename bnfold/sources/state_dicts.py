"""Weights into a network: every name and shape must fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.errors import InputRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn

__all__ = ["load_weights"]

_N_NAMED = 3


def load_weights(module: nn.Module, state: Mapping[str, torch.Tensor], where: str) -> None:
    """Put a state dict into a network; every name and shape must fit, in both directions.

    Args:
        module: takes the values in place, in its own dtypes.
        state: as `module.state_dict()`.
        where: the file the state comes from, for the message.

    Raises:
        InputRefused: names the first three keys that do not fit.
    """
    own = module.state_dict()
    problems = [f"{name} is missing" for name in own if name not in state]
    problems += [f"{name} is not in the network" for name in state if name not in own]
    for name, tensor in own.items():
        given = state.get(name)
        if given is None:
            continue
        if given.shape != tensor.shape:
            problems.append(f"{name} has shape {tuple(given.shape)} and not {tuple(tensor.shape)}")
        elif given.is_floating_point() != tensor.is_floating_point() or given.is_complex() != tensor.is_complex():
            problems.append(f"{name} has dtype {given.dtype} and not {tensor.dtype}")
    if problems:
        strangers = [name for name in state if name not in own]
        in_file = f"; the file has {', '.join(strangers[:_N_NAMED])}" if any(n not in state for n in own) else ""
        more = f", and {len(problems) - _N_NAMED} more" if len(problems) > _N_NAMED else ""
        raise InputRefused(
            "the weights do not fit the network",
            where=where,
            found=", ".join(problems[:_N_NAMED]) + more + (in_file if strangers else ""),
            expected=f"the {len(own)} entries of the network's state dict",
            remedy="give the weights of this network, or the network of these weights",
        )
    module.load_state_dict(dict(state), strict=True)
