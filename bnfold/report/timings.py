"""Whether a file that was made is worth it, in sentences: for the terminal, the page and the error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bnfold.records.verdicts import verdict_in_words
from bnfold.report.tables import number

__all__ = ["AGAINST", "slower_warning", "timing_sentence"]

AGAINST = {"plain": "the plain export", "source": "the source"}


def timing_sentence(timing: Mapping[str, Any]) -> str:
    """The ratio with its interval, the verdict, and where it was measured.

    Args:
        timing: the fields of a `Timing`.
    """
    threads, ends = timing["threads"], f"{timing['low']:.3f} to {timing['high']:.3f}"
    where = f"batch {timing['batch']}, {threads} thread{'' if threads == 1 else 's'}, {timing['provider']}"
    note = f"; {timing['note']}" if timing.get("note") else ""
    return (
        f"{timing['ratio']:.3f} ({ends}) of the time of {AGAINST[timing['against']]}, {verdict_in_words(timing)} "
        f"({where}{note})"
    )


def slower_warning(timing: Mapping[str, Any]) -> str | None:
    """What lost, where the file is slower: operators first, then layers; None elsewhere.

    Args:
        timing: the fields of a `Timing`, its parts as mappings.
    """
    if timing["verdict"] != "slower":
        return None
    parts = {
        kind: [
            f"{part['name']} {number(part['ms'], 3)} ms instead of {number(part['against_ms'], 3)}"
            for part in timing["slower"]
            if part["kind"] == kind
        ]
        for kind in ("operator", "layer")
    }
    told = [", ".join(parts["operator"]), f"in {', '.join(parts['layer'])}" if parts["layer"] else ""]
    lost = "; ".join(text for text in told if text) or "no operator alone"
    return f"the file is slower than {AGAINST[timing['against']]}: {lost}. --measure tries other ways to fold it"
