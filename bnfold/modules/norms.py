"""BatchNorm modules: which can be taken out, and what is left in their place."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

__all__ = ["STATISTICS", "is_norm", "replacement"]

STATISTICS = ("weight", "bias", "running_mean", "running_var")
"""The attributes of a BatchNorm, in the order of the inputs of ONNX BatchNormalization."""
_FROZEN = "FrozenBatchNorm2d"


def is_norm(part: Any) -> bool:
    """Whether a submodule has the statistics of a BatchNorm."""
    return all(hasattr(part, name) for name in STATISTICS)


def replacement(part: nn.Module) -> nn.Module | None:
    """What stays of a BatchNorm whose scale and shift have gone elsewhere; None where its forward does more, or hooks.

    timm's BatchNormAct keeps its dropout and its activation.
    """
    from torch import nn

    if any(getattr(part, hooks, None) for hooks in ("_forward_hooks", "_forward_pre_hooks")):
        return None
    kinds = (nn.modules.batchnorm._BatchNorm.forward, nn.SyncBatchNorm.forward)
    if type(part).forward in kinds or type(part).__name__ == _FROZEN:
        return nn.Identity()
    drop, act = getattr(part, "drop", None), getattr(part, "act", None)
    if isinstance(drop, nn.Module) and isinstance(act, nn.Module):
        if isinstance(drop, nn.Identity):
            return nn.Identity() if isinstance(act, nn.Identity) else nn.Sequential(OrderedDict(act=act))
        return nn.Sequential(OrderedDict(drop=drop, act=act))
    return None
