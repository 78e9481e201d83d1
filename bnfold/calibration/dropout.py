"""Dropout in front of a BatchNorm, found by following the tensors of one forward pass.

Dropout multiplies by a random mask in training and by 1 afterwards. The mean stays, the variance does not: the running
variance behind it is that of another signal than the one in eval mode. Li, Chen, Hu and Yang, "Understanding the
Disharmony between Dropout and Batch Normalization by Variance Shift" (2018, arXiv:1801.05134), section 3.
"""

from __future__ import annotations

import copy
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from bnfold.sources.usercode import user_code

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn

__all__ = ["dropouts_in_front"]

_DROPOUTS = frozenset(
    {"dropout", "dropout_", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout",
     "bernoulli", "bernoulli_"}
)  # fmt: skip
_NORM = "batch_norm"


def dropouts_in_front(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Mapping[str, tuple[str, ...]]:
    """The dropouts (and other Bernoulli masks) that reach each BatchNorm without another BatchNorm between.

    Args:
        module: a copy of it runs once, in train mode.
        inputs: two samples at least.

    Returns:
        By the name of the module that normalizes, the names of the modules that drop; sorted.
    """
    import torch
    from torch.overrides import TorchFunctionMode
    from torch.utils import _pytree as pytree
    from torch.utils.weak import WeakTensorKeyDictionary

    copied = copy.deepcopy(module).train()
    names = {part: name for name, part in copied.named_modules()}
    inside: list[str] = []
    found: dict[str, set[str]] = {}
    marks: Any = WeakTensorKeyDictionary()

    class Follow(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            del types
            given = kwargs or {}
            leaves = [leaf for leaf in pytree.tree_leaves((args, given)) if isinstance(leaf, torch.Tensor)]
            reaching = set().union(*(marks.get(leaf, set()) for leaf in leaves))
            result = func(*args, **given)
            name, here = getattr(func, "__name__", ""), inside[-1] if inside else ""
            if name == _NORM and reaching:
                found.setdefault(here, set()).update(reaching)
                reaching = set()
            if name in _DROPOUTS and _drops(args, given):
                reaching = reaching | {here}
            for leaf in pytree.tree_leaves(result) if reaching else ():
                if isinstance(leaf, torch.Tensor):
                    marks[leaf] = reaching
            return result

    def enter(part: nn.Module, _: object) -> None:
        inside.append(names[part])

    def leave(*_: object) -> None:
        inside.pop()

    with ExitStack() as stack:
        for part in names:
            stack.callback(part.register_forward_pre_hook(enter).remove)
            stack.callback(part.register_forward_hook(partial(leave), always_call=True).remove)
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(torch.no_grad())
        stack.enter_context(user_code())
        with Follow():
            copied(*inputs)
    return {name: tuple(sorted(drops)) for name, drops in found.items()}


def _drops(args: tuple[Any, ...], given: Mapping[str, Any]) -> bool:
    """Whether the call may drop anything: its probability is not 0."""
    p = given.get("p", args[1] if len(args) > 1 else None)
    return bool(p != 0) if isinstance(p, (int, float)) else True
