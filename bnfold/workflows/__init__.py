"""What each command does, callable from Python; what these return is drawn by `bnfold.report` in notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bnfold.shown import draw_pages_with, draw_pictures_with

if TYPE_CHECKING:
    from bnfold.report.notebook import Picture


def _page(record: Any) -> str:
    from bnfold.report.notebook import framed_page

    return framed_page(record)


def _picture(record: Any) -> Picture:
    from bnfold.report.notebook import Picture

    return Picture(record)


draw_pages_with(_page)
draw_pictures_with(_picture)
