"""Boxes, arrows and words as SVG: no library, no script, readable in dark and in light, the same bytes every time."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Arrow", "Box", "Kind", "Words", "svg"]

Kind = Literal["plain", "norm", "takes", "stays"]

_STYLE = """
text{font:13px system-ui,-apple-system,"Segoe UI",sans-serif;fill:#1f2328}
.mid{text-anchor:middle}.small{font-size:11.5px;fill:#57606a}.head{font-weight:600;font-size:14px}
.box{stroke-width:1.5;fill:#f6f8fa;stroke:#8c959f}
.norm{fill:#fff1e5;stroke:#bc4c00}.takes{fill:#dafbe1;stroke:#1a7f37}.stays{fill:#ffebe9;stroke:#cf222e}
.arrow{fill:none;stroke:#6e7781;stroke-width:1.5}.tip{fill:#6e7781}
@media (prefers-color-scheme:dark){
text{fill:#e6edf3}.small{fill:#9198a1}
.box{fill:#21262d;stroke:#7d8590}
.norm{fill:#3d2410;stroke:#f0883e}.takes{fill:#12301b;stroke:#3fb950}.stays{fill:#3c1618;stroke:#f85149}
.arrow{stroke:#8b949e}.tip{fill:#8b949e}}
"""


@dataclass(frozen=True)
class Box:
    """An operator: its middle, its width and height, its word, and a line under it."""

    x: float
    y: float
    width: float
    height: float
    word: str
    kind: Kind = "plain"
    under: str = ""

    def svg(self) -> str:
        """A rounded rectangle with its words."""
        left, top = self.x - self.width / 2, self.y - self.height / 2
        shape = (
            f'<rect class="box {self.kind}" x="{left:g}" y="{top:g}" width="{self.width:g}" '
            f'height="{self.height:g}" rx="6"/>'
        )
        word = f'<text class="mid" x="{self.x:g}" y="{self.y + 4.5:g}">{escape(self.word)}</text>'
        under = (
            f'<text class="mid small" x="{self.x:g}" y="{self.y + self.height / 2 + 14:g}">{escape(self.under)}</text>'
        )
        return shape + word + (under if self.under else "")


@dataclass(frozen=True)
class Arrow:
    """From one point to another, level at both ends; `above` is written over its middle."""

    start: tuple[float, float]
    end: tuple[float, float]
    above: str = ""

    def svg(self) -> str:
        """A curve with a tip, and its words."""
        (x0, y0), (x1, y1) = self.start, self.end
        tip, bend = x1 - 6, max(x0, x1 - 20)  # level up to the last gap, so that it passes under what stands between
        half = (tip - bend) / 2
        curve = f"C{bend + half:g} {y0:g} {tip - half:g} {y1:g} {tip:g} {y1:g}"
        line = f'<path class="arrow" d="M{x0:g} {y0:g}H{bend:g}{curve}"/>'
        head = f'<path class="tip" d="M{tip:g} {y1 - 4:g}L{x1:g} {y1:g}L{tip:g} {y1 + 4:g}Z"/>'
        middle = f'<text class="mid small" x="{(x0 + x1) / 2:g}" y="{min(y0, y1) - 8:g}">{escape(self.above)}</text>'
        return line + head + (middle if self.above else "")


@dataclass(frozen=True)
class Words:
    """A line of text that begins at a point."""

    x: float
    y: float
    text: str
    style: Literal["head", "small", ""] = ""

    def svg(self) -> str:
        """The line."""
        return f'<text class="{self.style}" x="{self.x:g}" y="{self.y:g}">{escape(self.text)}</text>'


def svg(parts: Sequence[Box | Arrow | Words], size: tuple[float, float], *, title: str, says: str) -> str:
    """A picture.

    Args:
        parts: what is drawn, the first one lowest.
        size: width and height in pixels.
        title: its name, for those who hear it.
        says: what there is to see, in a sentence.
    """
    width, height = size
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-labelledby="title says">',
        f'<title id="title">{escape(title)}</title>',
        f'<desc id="says">{escape(says)}</desc>',
        f"<style>{_STYLE}</style>",
        *(part.svg() for part in parts),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"
