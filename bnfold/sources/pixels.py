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
    from torch.nn import functional

    position = [spec.name for spec in inputs].index(form.input)
    channel = 1 if form.network.layout == "nchw" else 3
    shape = [1, 1, 1, 1]
    shape[channel] = -1

    def fitted(x: torch.Tensor) -> torch.Tensor:
        """Resized and cropped as torchvision's Resize and CenterCrop do, without rounding to 8 bits."""
        if form.resize is None:
            return x
        x = x if channel == 1 else x.permute(0, 3, 1, 2)
        shorter = min(x.shape[2:])
        sizes = [length * form.resize // shorter for length in x.shape[2:]]
        x = functional.interpolate(x, size=sizes, mode=form.network.interpolation, antialias=True, align_corners=False)
        for axis, (length, kept) in enumerate(zip(sizes, form.crop or sizes, strict=True)):
            x = x.narrow(2 + axis, round((length - kept) / 2), kept)
        return x if channel == 1 else x.permute(0, 2, 3, 1)

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
            x = fitted(x.to(dtype))
            x = x[(slice(None),) * channel + (list(form.permutation),)] / form.network.divide
            mean, std = (torch.tensor(n, dtype=dtype).reshape(shape) for n in (form.network.mean, form.network.std))
            return self.network(*tensors[:position], (x - mean) / std, *tensors[position + 1 :])

    return Preprocessed().eval()
