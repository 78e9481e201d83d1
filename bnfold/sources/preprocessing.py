"""Images as a network reads them: decoded, fitted to its input, normalised; and what a user says of it in words.

x = (pixel / divide - mean) / std
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.errors import InputRefused
from bnfold.records.file_facts import CHANNELS, Preprocessing
from bnfold.sources.image_files import INTERPOLATIONS, MODES, fitted_pixels, upright_image
from bnfold.sources.model_file import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["KNOWN", "as_input", "fits", "normalised", "parse_preprocessing", "read_image"]

KNOWN = {
    "imagenet": Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), crop=0.875),
    "half": Preprocessing(mean=(0.5,), std=(0.5,)),
    "none": Preprocessing(),
}
"""By name: torchvision's transforms of ImageNet, pixels from -1 to 1, pixels from 0 to 1."""
_FORM = "a name and KEY=VALUE, separated by commas: imagenet, or divide=255,mean=0.5:0.5:0.5,std=0.5,crop=0.875"


def parse_preprocessing(text: str, *, where: str | None = None, others: Sequence[str] = ()) -> Preprocessing:
    """Read `imagenet`, or `divide=255,mean=0.485:0.456:0.406,std=0.229:0.224:0.225,channels=bgr,crop=0.875`.

    A name of `KNOWN` may stand in front; keys are the fields of `Preprocessing`, `size` as 224 or 192x256.

    Args:
        text: as above.
        where: the option and all that was given with it, and
        others: keys that it has besides, for messages; None for `--normalize`.

    Raises:
        InputRefused: an unknown name or key, or a value that is none.
    """
    where = f"--normalize {text}" if where is None else where
    chosen, known = KNOWN["none"], [*KNOWN, *_VALUES, *others]
    for position, part in enumerate(filter(None, (part.strip() for part in text.split(",")))):
        key, sign, value = part.partition("=")
        if not sign and position == 0 and key in KNOWN:
            chosen = KNOWN[key]
        elif not sign or key not in _VALUES:
            raise InputRefused(
                "the preprocessing cannot be read", where=where, found=part, expected=_FORM,
                remedy=nearest(key, known, listing=f"known: {', '.join(known)}"),
            )  # fmt: skip
        else:
            chosen = dataclasses.replace(chosen, **{key: _value(key, value, where)})
    for name in ("mean", "std"):
        n, wanted = len(getattr(chosen, name)), CHANNELS[chosen.channels]
        if n not in (1, wanted):
            raise InputRefused(
                f"{name} must have one value, or one for each channel", where=where, found=str(n),
                expected=f"{' or '.join(map(str, sorted({1, wanted})))}, for {chosen.channels}",
                remedy=f"write {name}=A:B:C, or add channels=gray",
            )  # fmt: skip
    return chosen


def _value(key: str, text: str, where: str) -> Any:
    try:
        return _VALUES[key](text)
    except (ValueError, KeyError) as error:
        raise InputRefused(
            f"{key} cannot be read", where=where, found=text, expected=_EXPECTED[key],
            remedy="correct it",
        ) from error  # fmt: skip


def _numbers(text: str) -> tuple[float, ...]:
    numbers = tuple(float(part) for part in text.split(":"))
    if not all(np.isfinite(numbers)):
        raise ValueError(text)
    return numbers


def _positive(text: str) -> tuple[float, ...]:
    numbers = _numbers(text)
    if min(numbers) <= 0:
        raise ValueError(text)
    return numbers


def _part(text: str) -> float:
    (number,) = _positive(text)
    if number > 1:
        raise ValueError(text)
    return number


def _size(text: str) -> tuple[int, int]:
    sizes = [int(part) for part in text.split("x")]
    if len(sizes) > 2 or min(sizes) < 1:
        raise ValueError(text)
    return sizes[0], sizes[-1]


def _one_of(*names: str) -> Callable[[str], str]:
    return {name: name for name in names}.__getitem__


_VALUES: dict[str, Callable[[str], Any]] = {
    "divide": lambda text: _positive(text)[0],
    "mean": _numbers,
    "std": _positive,
    "channels": _one_of(*CHANNELS),
    "layout": _one_of("nchw", "nhwc"),
    "size": _size,
    "crop": _part,
    "interpolation": _one_of(*INTERPOLATIONS),
}
_EXPECTED = {
    "divide": "a number above 0",
    "mean": "numbers separated by colons",
    "std": "numbers above 0, separated by colons",
    "channels": ", ".join(CHANNELS),
    "layout": "nchw or nhwc",
    "size": "224 or 192x256 (height x width)",
    "crop": "a number above 0, at most 1 (pixels go with resize= of --input-format)",
    "interpolation": ", ".join(INTERPOLATIONS),
}


def read_image(file: Path, preprocessing: Preprocessing) -> np.ndarray:
    """An image file as one sample of the input, float32: (C, H, W), or (H, W, C) where the layout is "nhwc".

    Raises:
        InputRefused: it cannot be decoded.
        EnvironmentNotReady: Pillow is not installed.
    """
    return as_input(upright_image(file), preprocessing)


def as_input(image: Any, preprocessing: Preprocessing) -> np.ndarray:
    """A PIL.Image.Image as one sample of the input, see `read_image`."""
    image = image.convert(MODES[CHANNELS[preprocessing.channels]])
    pixels = fitted_pixels(
        image, preprocessing.size, crop=preprocessing.crop, interpolation=preprocessing.interpolation
    )
    return np.asarray(normalised(pixels[np.newaxis], preprocessing)[0])


def normalised(pixels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Pixels (N, H, W, C) of 0 to 255, red first, as the input of the network: normalised, in its order and layout.

    A file that takes bytes has nothing to normalise.
    """
    ordered = pixels[..., ::-1] if preprocessing.channels == "bgr" else pixels
    values = (ordered / preprocessing.divide - np.array(preprocessing.mean)) / np.array(preprocessing.std)
    placed = values.transpose(0, 3, 1, 2) if preprocessing.layout == "nchw" else values
    if preprocessing.dtype == "uint8":
        placed = np.clip(np.rint(placed), 0, 255)
    return np.asarray(np.ascontiguousarray(placed, dtype=preprocessing.dtype))


def fits(preprocessing: Preprocessing, shape: Sequence[int | None]) -> bool:
    """Whether an input of this shape, batch first, can hold what the preprocessing makes."""
    if len(shape) != 4:
        return False
    axis = 1 if preprocessing.layout == "nchw" else 3
    return shape[axis] in (None, CHANNELS[preprocessing.channels])
