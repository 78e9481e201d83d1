"""The pixels that a file takes, where the network's preprocessing is part of it."""

from __future__ import annotations

import dataclasses
from typing import Literal

from bnfold.records.file_facts import CHANNELS, Preprocessing

__all__ = ["InputFormat", "PreprocessingFold"]


@dataclasses.dataclass(frozen=True)
class InputFormat:
    """Raw pixels of 0 to 255, and how they become the input of the network: `(pixel / divide - mean) / std`.

    Attributes:
        input: the name of the input that holds them.
        network: the network's own preprocessing; divide, mean and std are in the order of its channels.
        dtype: of the pixels, by NumPy's name.
        layout: of the pixels.
        channels: the order of the pixels' channels.
        resize: the shorter side of the image in the network, which the file resizes it to; None leaves it as it is.
        crop: height and width of the centred part of that which the network reads; None for all.
    """

    input: str
    network: Preprocessing
    dtype: Literal["uint8", "float32"] = "uint8"
    layout: Literal["nchw", "nhwc"] = "nhwc"
    channels: str = "rgb"
    resize: int | None = None
    crop: tuple[int, int] | None = None

    @property
    def n_channels(self) -> int:
        """How many channels the pixels have."""
        return CHANNELS[self.channels]

    @property
    def permutation(self) -> tuple[int, ...]:
        """The channel of the pixels for each of the network's."""
        order = tuple(range(self.n_channels))
        return order if self.channels == self.network.channels else order[::-1]

    @property
    def axes(self) -> tuple[int, ...] | None:
        """The permutation of axes that makes the network's layout of the pixels'; None where they are the same."""
        if self.layout == self.network.layout:
            return None
        return (0, 3, 1, 2) if self.layout == "nhwc" else (0, 2, 3, 1)

    @property
    def of_file(self) -> Preprocessing:
        """What is left to do in front of the file: decode, and fit to the size where the file does not."""
        left = dataclasses.replace(
            self.network, divide=1.0, mean=(0.0,), std=(1.0,), channels=self.channels, layout=self.layout,
            dtype=self.dtype,
        )  # fmt: skip
        return left if self.resize is None else dataclasses.replace(left, size=None, crop=1.0)


@dataclasses.dataclass(frozen=True)
class PreprocessingFold:
    """What became of the preprocessing: in the weights of these layers, or in nodes of its own, and why.

    `mean_in_node`: all but the mean is in the weights, for `reason`. `resized`: nodes in front of all resize the image.
    """

    outcome: Literal["folded", "explicit"]
    into: tuple[str, ...] = ()
    reason: str | None = None
    resized: bool = False
    mean_in_node: bool = False
