"""Where in a module a constant of its graph lies: the submodule and the attribute."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Place", "Places"]

_CALLED_AGAIN = re.compile(r"@\d+")


@dataclass(frozen=True)
class Place:
    """An attribute of a submodule, by the first path that leads to it."""

    path: str
    attribute: str

    def __str__(self) -> str:
        return f"{self.path}.{self.attribute}" if self.path else self.attribute


class Places:
    """The parameters and buffers of a module, and its submodules by every path."""

    def __init__(self, module: nn.Module) -> None:
        every = list(module.named_modules(remove_duplicate=False))
        self.modules: dict[str, Any] = dict(every)
        self.first: dict[int, str] = {}
        for path, part in every:
            self.first.setdefault(id(part), path)
        self._by_tensor: dict[int, list[Place]] = {}
        self.tensors: dict[Place, torch.Tensor] = {}
        for path, part in module.named_modules():
            for name, tensor in (*part._parameters.items(), *part._buffers.items()):
                if tensor is not None:
                    self._by_tensor.setdefault(id(tensor), []).append(Place(path, name))
                    self.tensors[Place(path, name)] = tensor

    def owner(self, scope: str) -> Any | None:
        """The submodule of a scope of the exporter, which numbers calls of one: `block@1`."""
        return self.modules.get(_CALLED_AGAIN.sub("", scope))

    def first_path(self, part: Any) -> str:
        """The first path to a submodule."""
        return self.first[id(part)]

    def of(self, name: str, scope: str) -> Place | None:
        """The place of a parameter's name in the graph: of tied ones that of the submodule that is called."""
        path, _, attribute = name.rpartition(".")
        part = self.modules.get(path)
        if part is None or (attribute not in part._parameters and attribute not in part._buffers):
            return None
        place = Place(self.first_path(part), attribute)
        caller = self.owner(scope)
        tied = self._by_tensor.get(id(self.tensors.get(place)), [])
        own = [each for each in tied if caller is not None and each.path == self.first_path(caller)]
        return own[0] if own else place

    def tied(self) -> list[list[Place]]:
        """The places of each tensor that has several."""
        return [group for group in self._by_tensor.values() if len(group) > 1]

    def takes_bias(self, scope: str) -> Place | None:
        """Where a bias can be put that is not there: a layer whose forward reads `self.bias`, which is None."""
        part = self.owner(scope)
        if part is None or getattr(part, "bias", 0) is not None or not _reads_bias(part):
            return None
        return Place(self.first_path(part), "bias")


def _reads_bias(part: Any) -> bool:
    for name in ("forward", "_conv_forward"):
        method = getattr(type(part), name, None)
        try:
            if method is not None and "self.bias" in inspect.getsource(method):
                return True
        except (OSError, TypeError):  # no source, as in a notebook that was closed
            continue
    return False
