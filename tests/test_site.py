"""The site of docs/ and the pictures: what is made when it is built, and that the pages are all in it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from bnfold import COMMANDS

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """scripts/ on the path; `script.load(NAME)` imports a module of it."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    module = ModuleType("script")
    module.load = importlib.import_module  # type: ignore[attr-defined]
    return module


def test_pictures_are_what_they_show(script: ModuleType) -> None:
    draw = script.load("draw")
    assert {name: (ROOT / "docs" / name).read_text() == picture() for name, picture in draw.PICTURES.items()} == {
        "before_after.svg": True,
        "rooms.svg": True,
        "units.svg": True,
    }


def test_picture_before_and_after_is_drawn_from_the_fold(script: ModuleType) -> None:
    text = (ROOT / "docs" / "before_after.svg").read_text()
    before, after = re.findall(r'class="head"[^>]*>([^<]*)<', text)
    assert (before, after) == (
        "before: 12 operators, 4 of them BatchNorms",
        "after: 5 operators, no BatchNorm, the same function",
    )
    assert text.count('class="box norm"') == 4
    assert "prefers-color-scheme:dark" in text
    assert before[8:20] in (ROOT / "README.md").read_text()


def test_every_command_and_option_is_in_the_reference(script: ModuleType) -> None:
    text = script.load("site_pages.reference").command_reference()
    assert re.findall(r"^## bnfold (\S+)$", text, flags=re.MULTILINE) == list(COMMANDS)
    assert "| `--fail-if-slower 3%` |" in text
    assert "\b" not in text
    assert text.count("| `-v, --verbose` |") >= len(COMMANDS) - 1


def test_every_public_function_is_in_the_reference(script: ModuleType) -> None:
    text = script.load("site_pages.reference").python_reference()
    for path in re.findall(r"^::: (\S+)$", text, flags=re.MULTILINE):
        module, _, name = path.rpartition(".")
        found = importlib.util.find_spec(path) if path.startswith("bnfold.records") or path == "bnfold.errors" else None
        assert found or hasattr(importlib.import_module(module), name), path
    assert "::: bnfold.workflows.fold_export.fold_export" in text


@pytest.mark.parametrize(
    ("own", "link", "there"),
    [
        ("README.md", "[a](docs/int8.md#time)", "[a](int8.md#time)"),
        ("README.md", "![a](docs/units.svg)", "![a](units.svg)"),
        ("README.md", "[Apache-2.0](LICENSE)", "Apache-2.0"),
        ("docs/cost.md", "[a](../ARCHITECTURE.md)", "[a](architecture.md)"),
        ("docs/cost.md", "[a](tutorial.ipynb)", "[a](tutorial.md)"),
        ("docs/cost.md", "[a](../bnfold/errors.py)", "a"),
        ("benchmarks/cpu.md", "[a](../docs/cost.md)", "[a](../cost.md)"),
        ("docs/cost.md", "[a](https://example.org/x)", "[a](https://example.org/x)"),
        ("docs/cost.md", "`[a](../LICENSE)`", "`[a](../LICENSE)`"),
    ],
)
def test_links_lead_to_where_pages_stand_on_the_site(script: ModuleType, own: str, link: str, there: str) -> None:
    assert script.load("site_pages.made_pages").moved_links(link, own) == there


def test_every_page_is_in_the_navigation(script: ModuleType) -> None:
    made = script.load("site_pages.made_pages").pages()
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} | {name for name in made if name.endswith(".md")}
    listed = re.findall(r": ([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE)
    assert sorted(listed) == sorted(pages)


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ('<script src="https://example.org/x.js"></script>', "a.html: fetches https://example.org/x.js"),
        ('<link rel="stylesheet" href="//example.org/x.css">', "a.html: fetches //example.org/x.css"),
        ('<a href="b.html">b</a>', "a.html: b.html leads nowhere"),
        ('<a href="#b">b</a>', "a.html: #b has no such anchor"),
        ('<a href="#b">b</a><p id="b">', None),
        ('<a href="https://example.org/">b</a>', None),
    ],
)
def test_check_of_the_site_finds(script: ModuleType, page: str, fault: str | None, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(page)
    assert script.load("check_site").faults(tmp_path) == ([] if fault is None else [fault])
