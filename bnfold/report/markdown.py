"""GitHub Flavored Markdown: tables, and text that is no markup."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["escaped", "table"]


def escaped(text: str) -> str:
    """Text on one line, its signs escaped (CommonMark 2.4: a backslash may stand before any ASCII punctuation)."""
    return re.sub(r"([\\`*_<\[|~&])", r"\\\1", " ".join(text.split()))


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """The lines of a table whose first column is text; nothing where it has no rows."""
    if not rows:
        return []
    sides = ["---", *["---:"] * (len(heads) - 1)]
    body = [" | ".join(escaped(str(cell)) for cell in row) for row in rows]
    return [f"| {line} |" for line in (" | ".join(heads), " | ".join(sides), *body)]
