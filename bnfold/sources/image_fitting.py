"""`resize=` and `crop=` of `--input-format`: what the file itself does to an image of any size before the network.

`resize=256` makes the shorter side 256 pixels, `crop=224` (or 192x256, height x width) keeps the centre; the network's
own size where it is left out. See `bnfold.graph.resize_nodes`.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from bnfold.errors import InputRefused
from bnfold.graph.resize_nodes import OLDEST_OPSET

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnfold.records import InputSpec
    from bnfold.records.input_format import InputFormat

__all__ = ["RESIZE", "Fitting", "compared_at", "fitted_form", "read_fitting"]

RESIZE = "resize"
_CROP = "crop"
_FILTERS = ("bilinear", "bicubic")


@dataclasses.dataclass(frozen=True)
class Fitting:
    """The shorter side, None where nothing is resized, and the crop, None for the network's size."""

    resize: int | None = None
    crop: tuple[int, int] | None = None


def read_fitting(parts: Sequence[str], where: str) -> tuple[list[str], Fitting]:
    """Take `resize=` out of the parts of a format, and where it is there, `crop=` in pixels.

    Args:
        parts: of the format, in order.
        where: the option and its text, for messages.

    Returns:
        The other parts, and what was read.

    Raises:
        InputRefused: a number is none.
    """
    given = [part for part in parts if part.partition("=")[0] == RESIZE]
    if not given:
        return list(parts), Fitting()
    crops = [part for part in parts if part.partition("=")[0] == _CROP]
    rest = [part for part in parts if part not in given and part not in crops]
    side = _whole(RESIZE, given[-1], where, "a number of pixels, the shorter side: 256", most=1)[0]
    crop = _whole(_CROP, crops[-1], where, "pixels beside resize=: 224, or 192x256 (height x width)") if crops else None
    if crop is not None and max(crop) > side:
        raise InputRefused(
            "the crop must lie in the image", where=where, found=f"crop={crop[0]}x{crop[1]} of resize={side}",
            expected="a crop of at most the shorter side", remedy="write a larger resize=, or a smaller crop=",
        )  # fmt: skip
    return rest, Fitting(side, crop)


def _whole(key: str, part: str, where: str, expected: str, most: int = 2) -> tuple[int, int]:
    text = part.partition("=")[2]
    sizes = [int(each) for each in text.split("x") if each.isascii() and each.isdigit()]
    if len(sizes) != text.count("x") + 1 or not 1 <= len(sizes) <= most or min(sizes) < 1:
        raise InputRefused(f"{key} cannot be read", where=where, found=text, expected=expected, remedy="correct it")
    return sizes[0], sizes[-1]


def fitted_form(
    form: InputFormat, fitting: Fitting, size: tuple[int, int] | None, *, fixed: bool, opset: int | None, where: str
) -> InputFormat:
    """The format with what the file does to the image.

    Args:
        form: without it.
        fitting: as read.
        size: the network's own; None where it takes any.
        fixed: whether it takes no other.
        opset: of the graph, None where the exporter chooses it.
        where: the option and its text, for messages.

    Raises:
        InputRefused: the crop is not the network's size, the interpolation no filter, or the opset has no such Resize.
    """
    if fitting.resize is None:
        return form
    crop = fitting.crop or size
    if fixed and crop != size and size is not None and crop is not None:
        raise InputRefused(
            "the crop contradicts the network", where=where, found=f"crop={crop[0]}x{crop[1]}",
            expected=f"the network's {size[0]}x{size[1]}", remedy="leave crop= out",
        )  # fmt: skip
    if crop is not None and max(crop) > fitting.resize:
        raise InputRefused(
            "the shorter side must be at least the network's size", where=where, found=f"resize={fitting.resize}",
            expected=f"{max(crop)} or more", remedy=f"write resize={max(crop)}",
        )  # fmt: skip
    if form.network.interpolation not in _FILTERS:
        raise InputRefused(
            "an image is resized by a filter", where=where, found=f"interpolation={form.network.interpolation}",
            expected=" or ".join(_FILTERS), remedy="correct it, or resize in front of the file",
        )  # fmt: skip
    if opset is not None and opset < OLDEST_OPSET:
        raise InputRefused(
            "the opset has no antialiased Resize", where=where, found=f"opset {opset}",
            expected=f"opset {OLDEST_OPSET} or newer",
            remedy=f"convert it with bnfold fold-export --opset {OLDEST_OPSET} first, or leave resize= out",
        )  # fmt: skip
    return dataclasses.replace(form, resize=fitting.resize, crop=crop)


def compared_at(spec: InputSpec, form: InputFormat) -> InputSpec:
    """The input with a height and a width to compare at, where the file takes any: above `resize`, and not square."""
    if form.resize is None:
        return spec
    shape, first = list(spec.shape), 1 if form.layout == "nhwc" else 2
    shape[first : first + 2] = [form.resize + form.resize // 8, form.resize + form.resize // 2]
    symbols = list(spec.symbols)
    if symbols:
        symbols[first : first + 2] = [f"{form.input}_height", f"{form.input}_width"]
    return dataclasses.replace(spec, shape=tuple(shape), symbols=tuple(symbols))
