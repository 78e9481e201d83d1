"""Pages of the site that lie elsewhere, or nowhere, in the repository, and links that lead there."""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

from site_pages.reference import command_reference, python_reference

__all__ = ["COPIED", "moved_links", "pages"]

ROOT = Path(__file__).resolve().parents[2]
# Where files of the repository stand on the site; what is named nowhere here, and not in docs/, is no page.
COPIED = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "benchmarks/cpu.md": "benchmarks/cpu.md",
    "benchmarks/quality.md": "benchmarks/quality.md",
    "benchmarks/cpu.svg": "benchmarks/cpu.svg",
    "docs/tutorial.ipynb": "tutorial.md",
}
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_CODE = re.compile(r"(^```.*?^```$|``.*?``|`[^`\n]*`)", flags=re.MULTILINE | re.DOTALL)


def pages() -> dict[str, str]:
    """The pages that are made, by their place on the site, as Markdown (or what a picture holds)."""
    found = {}
    for own, there in COPIED.items():
        text = (ROOT / own).read_text()
        if own.endswith(".ipynb"):
            text = notebook_text(json.loads(text))
        found[there] = text if own.endswith(".svg") else moved_links(text, own)
    return {**found, "reference/commands.md": command_reference(), "reference/python.md": python_reference()}


def moved_links(text: str, own: str) -> str:
    """A page with its links as they are on the site; one that leads to a file that is no page is its words alone.

    Args:
        text: the page as it is in the repository.
        own: its path there, from which links lead on.
    """

    def moved(match: re.Match[str]) -> str:
        picture, words, target = match.groups()
        if "://" in target or target.startswith(("#", "mailto:")):
            return match[0]
        path, hash_sign, anchor = target.partition("#")
        there = _place(_joined(str(PurePosixPath(own).parent), path))
        if there is None:
            return words
        here = _place(own) or own
        return f"{picture}[{words}]({_relative(here, there)}{hash_sign}{anchor})"

    parts = _CODE.split(text)  # every second one is code
    return "".join(part if k % 2 else _LINK.sub(moved, part) for k, part in enumerate(parts))


def notebook_text(notebook: dict[str, Any]) -> str:
    """A notebook as a page: its words, its code, and what that printed."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            printed = output.get("text") or output.get("data", {}).get("text/plain")
            if printed:
                parts.append("```text\n" + "".join(printed).rstrip() + "\n```")
    return "\n\n".join(parts) + "\n"


def _place(own: str) -> str | None:
    """Where a file of the repository stands on the site, None where it does not."""
    if own in COPIED:
        return COPIED[own]
    return own.removeprefix("docs/") if own.startswith("docs/") and own.endswith((".md", ".svg")) else None


def _joined(folder: str, path: str) -> str:
    parts: list[str] = []
    for part in (PurePosixPath(folder) / path).parts:
        if part == "..":
            parts = parts[:-1]
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def _relative(here: str, there: str) -> str:
    return "../" * (len(PurePosixPath(here).parts) - 1) + there
