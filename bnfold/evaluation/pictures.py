"""An input of a network back as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from bnfold.records.file_facts import Preprocessing

__all__ = ["as_picture"]


def as_picture(x: np.ndarray, preprocessing: Preprocessing | None) -> Any:
    """One sample of an input as a PIL.Image.Image; None where it is no image.

    Args:
        x: (C, H, W), or (H, W, C) where the preprocessing says so.
        preprocessing: undone; without one the values are stretched from black to white.
    """
    from PIL import Image

    if x.ndim != 3:
        return None
    pixels = x if preprocessing is not None and preprocessing.layout == "nhwc" else x.transpose(1, 2, 0)
    if pixels.shape[2] not in (1, 3, 4):
        return None
    values = pixels.astype(np.float64)
    if preprocessing is not None:
        values = (values * np.array(preprocessing.std) + np.array(preprocessing.mean)) * preprocessing.divide
        values = values[..., ::-1] if preprocessing.channels == "bgr" else values
    else:
        low, high = values.min(), values.max()
        values = 255 * (values - low) / (high - low if high > low else 1.0)
    whole = np.clip(values.round(), 0, 255).astype(np.uint8)
    return Image.fromarray(whole[..., 0] if whole.shape[2] == 1 else whole)
