"""A network behind a door. `accelerate` replaces `forward` of the module it prepares; the user's own stays as it is."""

from __future__ import annotations

from typing import Any

from torch import nn

__all__ = ["Whole"]


class Whole(nn.Module):
    """Calls `network`, and has its parameters."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Any) -> Any:
        """What the network says."""
        return self.network(*inputs)
