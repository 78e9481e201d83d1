"""Image files: decoded with Pillow, turned as their EXIF says; one that cannot be read is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.sources.extras import require

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

__all__ = [
    "INTERPOLATIONS",
    "MODES",
    "SUFFIXES",
    "fitted_pixels",
    "require_pillow",
    "unreadable_image",
    "upright_image",
]

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's modes by number of channels
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


def require_pillow(purpose: str) -> Any:
    """Pillow's `PIL.Image`.

    Raises:
        EnvironmentNotReady: Pillow is not installed.
    """
    return require("PIL.Image", extra="images", purpose=purpose)


def upright_image(file: Path) -> Any:
    """Decode an image file; the mode is the file's own.

    Returns:
        A PIL.Image.Image.

    Raises:
        InputRefused: it cannot be decoded.
        EnvironmentNotReady: Pillow is not installed.
    """
    pillow = require_pillow("image files")
    from PIL import ImageOps

    try:
        with pillow.open(file) as opened:
            opened.load()
            return ImageOps.exif_transpose(opened)
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        raise unreadable_image(file, error) from error


def unreadable_image(file: Path, error: Exception) -> InputRefused:
    """The refusal of an image that cannot be decoded."""
    return InputRefused(
        "an image cannot be read",
        where=str(file),
        found=" ".join(str(error).split())[:200] or type(error).__name__,
        remedy="replace it, or take it out of the folder",
    )


def fitted_pixels(
    image: Any, size: tuple[int, int] | None, *, crop: float = 1.0, interpolation: str = "bilinear"
) -> np.ndarray:
    """The pixels of an image, cropped at the centre and resized to a size.

    Args:
        image: a PIL.Image.Image.
        size: height and width; None leaves the image as large as it is.
        crop: the centred part of its sides that is kept; what the aspect ratio wants is cropped besides.
        interpolation: one of `INTERPOLATIONS`.

    Returns:
        (height, width, channels), float64, 0 to 255 for images of 8 bits.
    """
    import numpy as np
    from PIL import Image, ImageOps

    if size is not None:
        method = Image.Resampling[interpolation.upper()]
        image = ImageOps.fit(image, (size[1], size[0]), method=method, bleed=(1 - crop) / 2)
    pixels = np.asarray(image, dtype=np.float64)
    return pixels if pixels.ndim == 3 else pixels[:, :, np.newaxis]
