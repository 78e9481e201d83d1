"""A copy of the user's module to work on, so that theirs comes back as it was, whatever happens."""

from __future__ import annotations

import contextlib
import copy
import random
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.errors import InputRefused
from bnfold.sources.extras import require_torch
from bnfold.sources.healthy import first_names
from bnfold.sources.module_facts import refuse_lazy
from bnfold.sources.usercode import described

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

__all__ = ["copied_module", "duplicate", "kept_random_state", "private_copy"]


def private_copy(network: nn.Module, *, where: str) -> nn.Module:
    """A copy in eval mode on the CPU, which shares the memory of parameters that are there already.

    Raises:
        InputRefused: it has no forward, or no values, or cannot be copied.
    """
    module = copied_module(network, where=where, share=True)
    return module.cpu().eval()


def copied_module(network: nn.Module, *, where: str, share: bool = False) -> nn.Module:
    """A copy of the same class in the same mode, on the same device or, with `share`, on the CPU with shared memory.

    Tensors that were computed from parameters and are kept as attributes (as `torch.nn.utils.weight_norm` does) are
    copied by value, which `copy.deepcopy` refuses.

    Raises:
        InputRefused: it has no forward, or no values, or cannot be copied.
    """
    torch = require_torch()
    _refuse_without_forward(network, where)
    refuse_lazy(network, where)
    empty = [name for name, tensor in [*network.named_parameters(), *network.named_buffers()] if tensor.is_meta]
    if empty:
        raise InputRefused(
            "the network has parameters on the device meta, which holds no values", where=where,
            found=first_names(empty), expected="parameters on the CPU or a GPU",
            remedy="make it with to_empty() and load_state_dict(), or without the device meta",
        )  # fmt: skip
    memo: dict[int, Any] = {}
    for part in network.modules():
        for value in (*part.__dict__.values(), *part._buffers.values()):
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    if share:
        plain = (p for p in network.parameters() if type(p) is torch.nn.Parameter)
        memo |= {id(p): torch.nn.Parameter(p.detach().cpu(), requires_grad=p.requires_grad) for p in plain}
    try:
        made = duplicate(network, memo)
    except Exception as error:
        raise InputRefused(
            "the module cannot be copied, and bnfold works on a copy",
            where=where,
            found=described(error)[:300],
            remedy="leave out what copy.deepcopy refuses, or give torch.export.export(module.eval(), args)",
        ) from error
    return made


def duplicate(network: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """`copy.deepcopy`, without what PyTorch says of the tree specs inside an exported program's module."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*LeafSpec", category=FutureWarning)
        return copy.deepcopy(network, memo)


def _refuse_without_forward(network: nn.Module, where: str) -> None:
    torch = require_torch()
    own = getattr(network.forward, "__func__", network.forward)
    if own is torch.nn.Module.forward:
        raise InputRefused(
            "the module has no forward", where=where, expected="a network that can be called",
            remedy="define forward in its class, or give the module that calls it",
        )  # fmt: skip


@contextlib.contextmanager
def kept_random_state() -> Iterator[None]:
    """Give PyTorch (the CPU's), NumPy's global generator and `random` their state back."""
    torch = require_torch()
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 - the global generator
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002 - as above
        torch.set_rng_state(states[2])
