"""Hooks of MkDocs: adds the pages that are made, and leads links of the others to where they stand on the site."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from site_pages.made_pages import COPIED, moved_links, pages

_LEFT_OUT = ("terms.txt", "tutorial.ipynb")


def on_files(files: Any, config: Any) -> Any:
    """Add what is made, take out what is no page."""
    from mkdocs.structure.files import File

    for own in _LEFT_OUT:
        found = files.get_file_from_path(own)
        if found is not None:
            files.remove(found)
    for place, text in pages().items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead the links of a page of docs/ to where they stand on the site."""
    place = page.file.src_uri
    if place in COPIED.values() or place.startswith("reference/"):
        return markdown
    return moved_links(markdown, f"docs/{place}")
