"""Figures of matplotlib as SVG that fits a page: no fixed black, no duplicate ids, no date, no address.

What is black in a figure becomes `currentColor`, so that it follows the page's text in dark and in light.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from bnfold.report.write import write_bytes
from bnfold.runtime import missing_package

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from matplotlib.figure import Figure

__all__ = ["drawing", "encoded", "inline_svg", "new_figure", "require_matplotlib", "save_picture"]

_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_FONT = re.compile(r"font-family: [^;]*")
_STANDALONE_STYLE = ":root{color:#1f2328}@media(prefers-color-scheme:dark){:root{color:#e6edf3}}"
_RC = {
    "svg.fonttype": "none",  # text stays text: it can be read aloud, searched, and takes the page's font
    "text.parse_math": False,  # a layer may be called $x$
    "axes.titlepad": 8.0,
    "savefig.dpi": 200.0,
    "font.size": 9.0,
    "figure.constrained_layout.w_pad": 0.12,
}


def require_matplotlib() -> Any:
    """Import matplotlib.

    Raises:
        EnvironmentNotReady: it is not installed; the remedy is the line that installs it.
    """
    try:
        import matplotlib as mpl
    except ModuleNotFoundError as error:
        raise missing_package("matplotlib") from error
    return mpl


def drawing() -> AbstractContextManager[None]:
    """The house style: figures are made, drawn and saved inside it.

    Raises:
        EnvironmentNotReady: matplotlib is missing.
    """
    context: AbstractContextManager[None] = require_matplotlib().rc_context(_RC)
    return context


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure that arranges itself."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), layout="constrained")


def save_picture(figure: Figure, target: Path) -> None:
    """Write a figure as .svg or .png, see `encoded`."""
    write_bytes(encoded(figure, target.suffix.lower()), target)


def encoded(figure: Figure, suffix: str) -> bytes:
    """A figure as the content of an .svg or .png file, the same bytes every time.

    The SVG is transparent and turns light on a dark page; the PNG is on white.
    """
    if suffix == ".png":
        stream = io.BytesIO()
        figure.savefig(stream, format="png", metadata={"Software": None})
        return stream.getvalue()
    root = _svg(figure, "picture")
    style = ET.Element("style")
    style.text = _STANDALONE_STYLE
    root.insert(0, style)
    root.set("xmlns", _SVG.strip("{}"))
    return bytes(ET.tostring(root)) + b"\n"


def inline_svg(figure: Figure, name: str, title: str) -> ET.Element:
    """A figure as an element of an HTML page, as wide as its place.

    Args:
        figure: what to draw.
        name: tells its ids from those of the page's other pictures.
        title: what a reader hears who cannot see it.
    """
    root = _svg(figure, name)
    for key in ("width", "height"):
        del root.attrib[key]
    root.set("role", "img")
    root.set("aria-label", title)
    return root


def _svg(figure: Figure, name: str) -> ET.Element:
    """The SVG as elements without namespaces, with black as `currentColor`."""
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", transparent=True)
    root = ET.fromstring(stream.getvalue())  # noqa: S314 - written by matplotlib, just now
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag in (f"{_SVG}metadata", f"{_SVG}style")]:
            parent.remove(child)
    ids: dict[str, str] = {}
    for element in root.iter():
        _clean(element, name, ids)
    root.set("style", "stroke-linejoin: round; fill: currentColor")
    return root


def _clean(element: ET.Element, name: str, ids: dict[str, str]) -> None:
    def renamed(found: str) -> str:
        """In order of appearance: matplotlib's hash holds digits of the layout that differ from run to run."""
        return ids.setdefault(found, f"{name}-{len(ids)}")

    element.tag = element.tag.removeprefix(_SVG)
    if element.tag == "g":
        element.attrib.pop("id", None)  # figure_1, axes_1: the same in every picture, and nothing refers to them
    if _LINK in element.attrib:
        element.set("href", f"#{renamed(element.attrib.pop(_LINK)[1:])}")
    if "id" in element.attrib:
        element.set("id", renamed(element.attrib["id"]))
    if "clip-path" in element.attrib:
        found = element.attrib["clip-path"].removeprefix("url(#").removesuffix(")")
        element.set("clip-path", f"url(#{renamed(found)})")
    if "style" in element.attrib:
        style = _FONT.sub("font-family: inherit", element.attrib["style"])
        element.set("style", style.replace("#000000", "currentColor"))
