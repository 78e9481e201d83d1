"""How a network is called: which tensors go where among its positional and keyword arguments."""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.sources.extras import require_torch
from bnfold.sources.healthy import first_names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch
    from torch import nn

__all__ = ["TENSOR", "Call", "call_of", "runnable"]

_CONSTANTS = (bool, int, float, str, type(None))


class _Tensor:
    """Stands where a tensor goes."""


TENSOR = _Tensor()


@dataclasses.dataclass(frozen=True)
class Call:
    """The arguments of a network as a tree of `torch.utils._pytree` over `(args, kwargs)`.

    Attributes:
        names: of the tensors, in the order of the tree: the parameter of `forward`, behind it the keys and positions
            inside it, as `torch.export` names them.
        leaves: `TENSOR` where a tensor goes; what else is given (True, None, 0.5) is part of the network.
        tree: the `TreeSpec`.
    """

    names: tuple[str, ...]
    leaves: tuple[Any, ...]
    tree: Any

    @property
    def is_plain(self) -> bool:
        """Whether the tensors are the positional arguments, one after the other."""
        from torch.utils import _pytree as pytree

        flat = pytree.tree_structure((tuple(0 for _ in self.names), {}))
        return bool(self.tree == flat) and len(self.leaves) == len(self.names)

    def arguments(self, tensors: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and keyword arguments that hold these, one for each of `names`."""
        from torch.utils import _pytree as pytree

        rest = iter(tensors)
        leaves = [next(rest) if isinstance(leaf, _Tensor) else leaf for leaf in self.leaves]
        args, kwargs = pytree.tree_unflatten(leaves, self.tree)
        return tuple(args), dict(kwargs)


def call_of(
    module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], *, where: str
) -> tuple[Call, tuple[torch.Tensor, ...]]:
    """How a module is called with these arguments, and the tensors among them.

    Raises:
        InputRefused: `forward` does not take them, or one is neither a tensor nor a number, text or None.
    """
    torch = require_torch()
    from torch.utils import _pytree as pytree

    parameters = _bound(module, args, kwargs, where=where)
    order = [name for name in parameters if name in kwargs]
    paths, tree = pytree.tree_flatten_with_path((tuple(args), {name: kwargs[name] for name in order}))
    positional = [name for name in parameters if name not in kwargs]
    leaves, tensors, names, strangers = [], [], [], []
    for path, leaf in paths:
        name = _leaf_name(path, positional)
        if torch.is_tensor(leaf):
            tensors.append(leaf)
            names.append(name)
        elif not isinstance(leaf, _CONSTANTS):
            strangers.append(f"{name}: {type(leaf).__name__}")
        leaves.append(TENSOR if torch.is_tensor(leaf) else leaf)
    if strangers or not tensors:
        raise InputRefused(
            "the example holds something that no input can be" if strangers else "the example holds no tensor",
            where=where,
            found=first_names(strangers) if strangers else None,
            expected="tensors, or tuples, lists and dicts of tensors, as forward takes them",
            remedy="give the arguments of forward: a tensor, a tuple of them, or a dict by keyword",
        )
    return Call(tuple(names), tuple(leaves), tree), tuple(tensors)


def _bound(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], *, where: str) -> list[str]:
    """The names of the arguments that are given, in the order of `forward`; those of `*args` are numbered."""
    signature = inspect.signature(module.forward)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise InputRefused(
            "the example does not fit the network's forward",
            where=where,
            found=str(error),
            expected=f"the arguments of forward{signature}",
            remedy="give a tensor or a tuple in the order of forward, or a dict by keyword",
        ) from error
    names: list[str] = []
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            first = len(names)
            names += [f"input_{first + k}" if len(args) > 1 else "input" for k in range(len(value))]
        elif kind is inspect.Parameter.VAR_KEYWORD:
            names += value
        else:
            names.append(name)
    return names


def _leaf_name(path: Sequence[Any], positional: Sequence[str]) -> str:
    """The name of a leaf of `(args, kwargs)`: `x`, `states_0`, `batch_image`."""
    keys = [next(getattr(key, at) for at in ("key", "idx", "name") if hasattr(key, at)) for key in path]
    first = positional[keys[1]] if keys[0] == 0 else keys[1]
    return "_".join(str(key) for key in (first, *keys[2:]))


def runnable(module: nn.Module, call: Call | None) -> nn.Module:
    """A module that takes the tensors one after the other; the module itself where it does."""
    if call is None:
        return module
    torch = require_torch()
    base: Any = torch.nn.Module

    class Called(base):  # type: ignore[misc]  # torch is imported where it is used
        """Calls the network by the names of its arguments."""

        def __init__(self, network: nn.Module, arguments: Callable[..., Any]) -> None:
            super().__init__()
            self.network = network
            self.arguments = arguments

        def forward(self, *tensors: Any) -> Any:
            args, kwargs = self.arguments(tensors)
            return self.network(*args, **kwargs)

    called: nn.Module = Called(module, call.arguments)
    called.training = module.training  # not of what is inside: that of an exported program refuses
    return called
