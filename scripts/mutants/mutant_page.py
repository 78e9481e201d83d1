"""The table of mutants as Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from common.tables import markdown_table
from mutant_targets import draw, every_mutant, reason

__all__ = ["page"]

_HEAD = """# Mutants: the fold changed in one place, and what noticed

Made by `scripts/mutants/mutate.py`, which says how. A mutant is killed if a test fails with it; what is argued computes
the same by the sentence given. Lines are those of the revision that was measured.
"""


def page(results: Path, root: Path) -> str:
    """The page over all seeds with results."""
    found = every_mutant(root)
    total = sum(map(len, found.values()))
    parts = [_HEAD, f"{total:,} mutants of {len(found)} modules are known; each seed draws from them.\n"]
    for store in sorted(results.glob("mutants-*.json")):
        known = json.loads(store.read_text(encoding="utf-8"))
        seed = int(store.stem.split("-")[1])
        drawn = draw(found, 60, seed)
        rows = [(known[m.key], reason(m)) for m in drawn if m.key in known]
        killed = sum(entry["state"] == "killed" for entry, _ in rows)
        argued = sum(entry["state"] != "killed" and why is not None for entry, why in rows)
        parts.append(f"## Seed {seed}\n\n{len(rows)} tried: {killed} killed, {argued} argued, "
                     f"{len(rows) - killed - argued} unexplained.\n")  # fmt: skip
        headings = ("module", "line", "operator", "before", "after", "")
        parts += [markdown_table(headings, [_row(entry, why) for entry, why in rows]), ""]
    return "\n".join(parts)


def _row(entry: dict[str, Any], why: str | None) -> tuple[object, ...]:
    verdict = f"`{entry['by'].rpartition('/')[2]}`" if entry["state"] == "killed" else why or "**survived**"
    return (
        f"{entry['path']}",
        entry["line"],
        entry["operator"],
        _code(entry["before"]),
        _code(entry["after"]),
        verdict,
    )


def _code(text: str) -> str:
    short = text if len(text) <= 60 else f"{text[:57]}..."
    return f"`` {short} ``"
