"""Records in notebooks: the page of a report in a frame, the picture of a measurement.

The frame keeps the page's style apart from the notebook's, and follows the browser in dark and in light.
"""

from __future__ import annotations

import re
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.records import as_json
from bnfold.report.elements import element, page
from bnfold.report.html import PAGES, render_html
from bnfold.report.pictures import picture, write_picture
from bnfold.report.sections import ledger_section, other_sections

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

__all__ = ["Picture", "framed_page", "record_page"]

_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")
_TALL_REM, _HEAD_REM, _ENTRY_REM = 32.0, 11.0, 2.0  # of the frame, of what stands above a ledger's entries, of one


def framed_page(record: Any) -> str:
    """The page of a record as an element of a notebook, as high as it needs and no higher than a screen."""
    facts = as_json(record)
    content = escape(record_page(record).decode(), quote=True)
    entries = facts.get("entries")
    height = _TALL_REM if entries is None else min(_TALL_REM, _HEAD_REM + _ENTRY_REM * len(entries))
    style = f"width: 100%; height: {height:g}rem; border: 0"
    return f'<iframe srcdoc="{content}" style="{style}" title="bnfold"></iframe>'


def record_page(record: Any) -> bytes:
    """The page of any record: that of its command, or of its ledger and whatever else it holds."""
    facts: Mapping[str, Any] = as_json(record)
    if str(facts.get("schema", "")).startswith(PAGES):
        return render_html(facts, drawn=find_spec("matplotlib") is not None, linked=False)
    name = _WORD.sub(" ", type(record).__name__).lower()
    heading = element("h1", name[:1].upper() + name[1:], element("small", record.in_a_line()))
    ledger = facts if "entries" in facts else facts.get("ledger")
    if ledger is None:
        return page(name, heading, *other_sections(facts, ("schema",)))
    rest = () if ledger is facts else other_sections(facts, ("schema", "ledger"))
    return page(name, heading, ledger_section(ledger, "ledger"), *rest)


class Picture:
    """The picture of a measurement: notebooks show it, `save` writes it.

    Args:
        report: a `BenchReport`.

    Raises:
        InputRefused: nothing was measured.
        EnvironmentNotReady: matplotlib is missing.
    """

    def __init__(self, report: Any) -> None:
        self._facts = as_json(report)
        self._line = report.in_a_line()
        self.svg = picture(self._facts).decode()

    def __repr__(self) -> str:
        return f"<Picture of {self._line}>"

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write it as .svg or .png; the path comes back.

        Raises:
            InputRefused: another ending, or a file that cannot be written.
        """
        target = Path(path)
        write_picture(self._facts, target)
        return target
