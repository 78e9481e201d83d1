"""Tables in Markdown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["markdown_line", "markdown_table"]


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[int] = ()) -> str:
    """A table, without a line break at its end.

    Args:
        headings: of the columns, which may be empty.
        rows: their cells, as many as there are headings; a bar in one does not end it.
        right: the columns whose cells stand on the right, from 0.

    Raises:
        ValueError: a row has another number of cells.
    """
    on_the_right = set(right)
    bars = "".join("---:|" if column in on_the_right else "---|" for column in range(len(headings)))
    lines = [markdown_line(headings), f"|{bars}"]
    for row in rows:
        if len(row) != len(headings):
            raise ValueError(f"a row must have {len(headings)} cells, got {len(row)}: {list(row)}")
        lines.append(markdown_line(row))
    return "\n".join(lines)


def markdown_line(cells: Sequence[object]) -> str:
    """One row of a table."""
    texts = [re.sub(r"(?<!\\)\|", r"\\|", str(cell)) for cell in cells]
    return "|" + "".join(f" {text} |" if text else " |" for text in texts)
