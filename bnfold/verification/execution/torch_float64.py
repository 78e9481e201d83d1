"""PyTorch modules in float64: every narrower tensor that an operator meets is widened, and arrays go in and out."""

from __future__ import annotations

import contextlib
import copy
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

__all__ = ["in_float64", "sharing_copy", "stored_format", "to_array", "to_tensor"]


def stored_format(module: torch.nn.Module) -> str:
    """The coarsest floating-point format of the module's parameters and buffers; float32 where there are none."""
    found = {str(tensor.dtype).removeprefix("torch.") for tensor in module.state_dict().values()}
    return next((name for name in ("bfloat16", "float16", "float32", "float64") if name in found), "float32")


def sharing_copy(module: torch.nn.Module, *, share: bool = True) -> torch.nn.Module:
    """A copy of the module for `in_float64` that shares the memory of the module's parameters.

    The parameters of a layer are in float64 while it runs; buffers are copies in float64. Without `share` everything is
    copied as it is.
    """
    import torch

    memo: dict[int, Any] = {}
    if share:
        memo = {id(p): torch.nn.Parameter(p.detach(), requires_grad=p.requires_grad) for p in module.parameters()}
    with warnings.catch_warnings():
        # The module of an exported program holds tree specs, whose class PyTorch deprecates and still copies by.
        warnings.filterwarnings("ignore", message=r".*LeafSpec", category=FutureWarning)
        copied = copy.deepcopy(module, memo)
    for part in copied.modules() if share else ():
        for name, buffer in part._buffers.items():
            if buffer is not None and buffer.is_floating_point():
                part._buffers[name] = buffer.double()
        if any(True for _ in part.parameters(recurse=False)):
            _widen_while_running(part)
    return copied


def _widen_while_running(layer: torch.nn.Module) -> None:
    # The tensors are taken here, since `.data` is widened too where `in_float64` is on.
    stored = [(p, p.data) for p in layer.parameters(recurse=False) if p.is_floating_point()]

    def widen(*_: object) -> None:
        for parameter, tensor in stored:
            parameter.data = tensor.double()

    def restore(*_: object) -> None:
        for parameter, tensor in stored:
            parameter.data = tensor

    layer.register_forward_pre_hook(widen)
    layer.register_forward_hook(restore, always_call=True)


def to_tensor(array: np.ndarray, *, wide: bool) -> torch.Tensor:
    """A tensor of its own, floating-point ones in float64 where `wide`."""
    import torch

    if array.dtype.name == "bfloat16":
        tensor = torch.from_numpy(array.astype(np.float32)).bfloat16()
    else:
        tensor = torch.from_numpy(array.copy())  # a module may write into its input
    return tensor.double() if wide and tensor.is_floating_point() else tensor


def to_array(tensor: torch.Tensor) -> np.ndarray:
    """An array of its own, bfloat16 as ml_dtypes has it."""
    import torch

    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        import ml_dtypes

        return tensor.float().numpy().astype(ml_dtypes.bfloat16)
    return np.array(tensor.numpy())


@contextlib.contextmanager
def in_float64() -> Iterator[None]:
    """Make float64 of every narrower floating-point tensor or dtype that an operator is called with.

    Modules that create float32 constants in `forward`, or call `.float()`, then stay in float64 throughout.
    """
    import torch
    from torch.utils import _pytree as pytree
    from torch.utils._python_dispatch import TorchDispatchMode

    narrow = {torch.float32, torch.float16, torch.bfloat16}

    def widened(leaf: Any) -> Any:
        if isinstance(leaf, torch.dtype):
            return torch.float64 if leaf in narrow else leaf
        return leaf.double() if isinstance(leaf, torch.Tensor) and leaf.dtype in narrow else leaf

    class Widen(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves __init_subclass__ untyped
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            wide = pytree.tree_map(widened, (args, kwargs or {}))
            if func._schema.is_mutable and wide[0] and wide[0][0] is not args[0]:
                raise TypeError(f"{func} writes into a tensor of {args[0].dtype}")
            return func(*wide[0], **wide[1])

    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with Widen():  # type: ignore[no-untyped-call]  # torch leaves __init__ untyped
            yield
    finally:
        torch.set_default_dtype(default)
