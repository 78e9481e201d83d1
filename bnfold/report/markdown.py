"""Text in Markdown that is no markup."""

from __future__ import annotations

import re

__all__ = ["escaped"]


def escaped(text: str) -> str:
    """Text on one line, its signs escaped (CommonMark 2.4: a backslash may stand before any ASCII punctuation)."""
    return re.sub(r"([\\`*_<\[|~&])", r"\\\1", " ".join(text.split()))
