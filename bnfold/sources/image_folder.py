"""A folder of images as the rows of an input: decoded with Pillow, resized, cropped, scaled to 0..1."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from bnfold.errors import InputRefused
from bnfold.sources.image_files import MODES, SUFFIXES, fitted_pixels, require_pillow, upright_image

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bnfold.records import InputSpec
    from bnfold.records.input_format import InputFormat

__all__ = ["MAX_IMAGES", "SUFFIXES", "read_images"]

MAX_IMAGES = 64  # compared in float64, each costs as much as ten in float32
log = logging.getLogger("bnfold.verification")


def read_images(folder: Path, inputs: Sequence[InputSpec], form: InputFormat | None = None) -> dict[str, np.ndarray]:
    """Read the images of a folder and the folders in it, at most `MAX_IMAGES`, evenly over the sorted names.

    The shorter side is resized to the input's, the rest cropped at the centre. Values are pixels over 255, or the
    pixels as they are where the input is of uint8, nothing else: a network that wants them normalised is compared on an
    `.npz` of preprocessed inputs instead.

    Args:
        folder: that holds at least one image.
        inputs: one, of rank 4: (N, C, H, W), or (N, H, W, C) where axis 1 cannot be channels and axis 3 can.
        form: of the pixels that the input takes, which are not divided then; None where it takes the network's own.

    Raises:
        InputRefused: no image, one that cannot be decoded, one with other channels than the input, or an input that is
            no image.
        EnvironmentNotReady: Pillow is not installed.
    """
    spec, channels_first = _image_input(inputs, folder)
    scale = 1 / 255.0 if form is None and spec.dtype != "uint8" else 1.0
    reverse = form is not None and form.channels == "bgr"
    require_pillow("a folder of images")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise InputRefused(
            "the folder holds no image", where=str(folder), expected=", ".join(sorted(SUFFIXES)),
            remedy="check --inputs, or give an .npz file",
        )  # fmt: skip
    if len(files) > MAX_IMAGES:
        log.warning("%s: %d of %d images are compared, evenly over their names", folder, MAX_IMAGES, len(files))
        files = [files[i * len(files) // MAX_IMAGES] for i in range(MAX_IMAGES)]
    sizes = [size for size in spec.shape[1:] if size is not None]
    channels, height, width = sizes if channels_first else (sizes[2], sizes[0], sizes[1])
    rows = [_pixels(file, channels, (height, width)) * scale for file in files]
    rows = [(np.rint(row) if spec.dtype == "uint8" else row).astype(spec.dtype) for row in rows]
    rows = [row[..., ::-1] for row in rows] if reverse else rows
    return {spec.name: np.stack([row.transpose(2, 0, 1) if channels_first else row for row in rows])}


def _image_input(inputs: Sequence[InputSpec], folder: Path) -> tuple[InputSpec, bool]:
    """The one input, and whether its channels come before its pixels."""
    found = ", ".join(f"{spec.name} {spec.dtype} {spec.shape}" for spec in inputs)
    if len(inputs) == 1 and len(inputs[0].shape) == 4 and inputs[0].dtype.startswith(("float", "uint8")):
        shape = inputs[0].shape
        if None not in shape[1:] and (shape[1] in MODES or shape[3] in MODES):
            return inputs[0], shape[1] in MODES
    raise InputRefused(
        "the network does not read images", where=str(folder), found=found,
        expected="one float input of 1, 3 or 4 channels: (N, C, H, W) or (N, H, W, C)",
        remedy="give an .npz file with one array per input",
    )  # fmt: skip


def _pixels(file: Path, channels: int, size: tuple[int, int]) -> np.ndarray:
    """One image as (H, W, C), pixels of 0 to 255."""
    image = upright_image(file)
    if image.mode in ("P", "1", "CMYK", "YCbCr", "HSV", "LAB", "PA", "La", "RGBa"):
        has_alpha = "transparency" in image.info or image.mode in ("PA", "La", "RGBa")
        gray = image.mode == "1"
        image = image.convert("L" if gray else "RGBA" if has_alpha else "RGB")
    if len(image.getbands()) != channels or image.mode not in MODES.values():
        raise InputRefused(
            "an image has other channels than the input", where=str(file), found=f"mode {image.mode}",
            expected=f"mode {MODES[channels]}, for {channels} channels",
            remedy=f"convert the images, with Pillow: image.convert({MODES[channels]!r})",
        )  # fmt: skip
    return fitted_pixels(image, size)
