"""What a notebook shows of a record: a line as its repr, a page, and a picture; the layer above says who draws them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Shown", "draw_pages_with", "draw_pictures_with", "picture_of"]

_drawers: dict[str, Callable[[Any], Any]] = {}


def draw_pages_with(drawer: Callable[[Any], str]) -> None:
    """From now on `drawer` makes the HTML of every record."""
    _drawers["page"] = drawer


def draw_pictures_with(drawer: Callable[[Any], Any]) -> None:
    """From now on `drawer` makes the picture of every record that has one."""
    _drawers["picture"] = drawer


class Shown:
    """A record that has a line of its own, and a page in notebooks.

    IPython asks for `_repr_html_`: https://ipython.readthedocs.io/en/stable/config/integrating.html
    """

    def in_a_line(self) -> str:
        """What it is of, and what matters most, in one line."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.in_a_line()}>"

    def _repr_html_(self) -> str | None:
        """The record's page in a frame of its own; None where nobody draws, and a notebook shows the line."""
        drawer = _drawers.get("page")
        return None if drawer is None else str(drawer(self))


def picture_of(record: Any) -> Any:
    """The picture of a record.

    Raises:
        RuntimeError: nobody draws, since `bnfold.workflows` was never imported.
    """
    if "picture" not in _drawers:
        raise RuntimeError("there is nobody who draws pictures; import bnfold.workflows first")
    return _drawers["picture"](record)
