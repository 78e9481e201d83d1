"""Ask of every page of the built site: it fetches nothing from elsewhere, and its links and anchors lead somewhere.

python scripts/check_site.py build/site
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "video": "src"}
NOT_FETCHED = {"canonical", "prev", "next", "edit"}  # relations of <link> that a browser does not follow by itself


class Page(HTMLParser):
    """What a page fetches, where its links lead, and which ids it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.fetched, self.links, self.ids = list[str](), list[str](), set[str]()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        target = given.get(FETCHED.get(tag, ""))
        if target and given.get("rel") not in NOT_FETCHED:
            self.fetched.append(target)
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])


def _is_elsewhere(url: str) -> bool:
    return "://" in url or url.startswith("//")


def faults(site: Path) -> list[str]:
    """A line for each thing that a page fetches from elsewhere, and for each link that leads nowhere."""
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        found += [f"{name}: fetches {url}" for url in page.fetched if _is_elsewhere(url)]
        for link in {*page.links, *(url for url in page.fetched if not _is_elsewhere(url))}:
            if ":" in link.partition("/")[0] or name.name == "404.html":
                continue
            target, _, anchor = link.partition("#")
            there = (path.parent / unquote(target)).resolve() if target else path
            if not there.exists():
                found.append(f"{name}: {link} leads nowhere")
            elif anchor and there in pages and unquote(anchor) not in pages[there].ids:
                found.append(f"{name}: {link} has no such anchor")
    return found


def main() -> int:
    """Print the faults of a site."""
    site = Path(sys.argv[1])
    found = faults(site)
    for fault in found:
        print(f"error: {fault}", file=sys.stderr)
    if not any(site.rglob("*.html")):
        print(f"error: no page in {site}", file=sys.stderr)
        return 1
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main())
