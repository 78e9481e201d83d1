"""A PyTorch network behind its preprocessing, so that both can be run on pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from bnfold.records import InputSpec
    from bnfold.records.input_format import InputFormat

__all__ = ["preprocessed"]


def preprocessed(network: nn.Module, form: InputFormat, inputs: Sequence[InputSpec]) -> nn.Module:
    """A module that takes pixels, and gives the network `(pixel / divide - mean) / std`, in its layout and order.

    It computes in PyTorch's default type: in float64 where the network is evaluated in float64.

    Args:
        network: that takes its inputs one after the other.
        form: of the pixels.
        inputs: of the module, in order.
    """
    import torch

    position = [spec.name for spec in inputs].index(form.input)
    channel = 1 if form.network.layout == "nchw" else 3
    shape = [1, 1, 1, 1]
    shape[channel] = -1

    class Preprocessed(torch.nn.Module):
        """The network, and what stands in front of it."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *tensors: Any) -> Any:
            x = tensors[position]
            if form.axes is not None:
                x = x.permute(form.axes)
            dtype = torch.get_default_dtype()
            x = x.to(dtype)[(slice(None),) * channel + (list(form.permutation),)] / form.network.divide
            mean, std = (torch.tensor(n, dtype=dtype).reshape(shape) for n in (form.network.mean, form.network.std))
            return self.network(*tensors[:position], (x - mean) / std, *tensors[position + 1 :])

    return Preprocessed().eval()
