"""What users read speaks the field's language: none of the phrases of docs/terms.txt, each of which can be caught."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import bnfold
from bnfold.cli.main import main

ROOT = Path(__file__).resolve().parents[1]
TERMS = [
    line.split(" => ")
    for line in (ROOT / "docs" / "terms.txt").read_text().splitlines()
    if line and not line.startswith("#")
]
QUOTED = re.compile(
    r"^```.*?^```$|``.*?``|`[^`\n]*`", flags=re.MULTILINE | re.DOTALL
)  # code; JSON keys and options are in it
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")})


def pattern(phrase: str) -> re.Pattern[str]:
    """A phrase as whole words, whatever the case."""
    return re.compile(rf"(?<![\w/.-])(?:{phrase})(?![\w-])", flags=re.IGNORECASE)


def docstrings(tree: ast.AST) -> Iterator[ast.Constant]:
    """Strings that stand alone: docstrings of modules, classes, functions and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value


def strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Sentences that are values, with their lines: constants with a space, f-strings with {} for what they hold."""
    apart = {id(constant) for constant in docstrings(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            apart |= {id(part) for part in node.values}
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in apart:
            text = node.value
        else:
            continue
        if " " in text:
            yield node.lineno, text


def public_docstrings() -> Iterator[tuple[str, str]]:
    """Those of the functions of `bnfold`, of the records that they return, and of the zoo's files."""
    for name in bnfold.__all__:
        yield f"bnfold.{name}", str(getattr(bnfold, name).__doc__)
    for path in [*(ROOT / "bnfold" / "records").glob("*.py"), *(ROOT / "models").glob("*.py")]:
        for constant in docstrings(ast.parse(path.read_text())):
            yield f"{path.relative_to(ROOT)}:{constant.lineno}", str(constant.value)


def help_texts() -> Iterator[tuple[str, str]]:
    """Of every command and option, as click has them."""
    with main.make_context("bnfold", ["doctor"]) as context:
        for name in main.list_commands(context):
            command = main.get_command(context, name)
            assert command is not None
            yield f"{name} --help", str(command.help)
            yield from ((f"{name} {each.name}", str(getattr(each, "help", ""))) for each in command.params)


@cache
def texts() -> tuple[tuple[str, str], ...]:
    """Everything that a user may read: where it stands, and what it says without code."""
    found = [*help_texts(), *public_docstrings()]
    for path in sorted((ROOT / "bnfold").rglob("*.py")):
        found += [(f"{path.relative_to(ROOT)}:{line}", text) for line, text in strings(ast.parse(path.read_text()))]
    found += [(str(page.relative_to(ROOT)), page.read_text()) for page in PAGES]
    for notebook in (ROOT / "docs").glob("*.ipynb"):
        cells = json.loads(notebook.read_text())["cells"]
        found += [(notebook.name, "".join(cell["source"])) for cell in cells if cell["cell_type"] == "markdown"]
    return tuple((where, " ".join(QUOTED.sub("``", text).split())) for where, text in found)


@pytest.mark.parametrize(("phrase", "instead"), TERMS, ids=[phrase for phrase, _ in TERMS])
def test_no_reader_needs_a_dictionary(phrase: str, instead: str) -> None:
    hits = [
        f"{where}: ...{text[max(0, hit.start() - 40) : hit.end() + 40]}..."
        for where, text in texts()
        for hit in pattern(phrase).finditer(text)
    ]
    assert not hits, "\n".join([f"write {instead}:", *hits])


@pytest.mark.parametrize(
    "sentence",
    [
        "off by one last stored place", "a row in company", "statistics measured anew", "the layer that departs",
        "the departure", "each site vanishes", "dead wires", "BatchNorms in parts", "a yardstick", "over 20 loads",
        "the load mode", "the row alone", "row 2 is", "the batch size is none: found 0", "this is no network",
        "there is no such folder",
    ],
)  # fmt: skip
def test_the_phrases_are_caught(sentence: str) -> None:
    assert any(pattern(phrase).search(sentence) for phrase, _ in TERMS)


@pytest.mark.parametrize(
    "sentence", ["in parts of a batch", "the row of a table", "which ONNX Runtime loads", "offsite"]
)
def test_other_words_are_left(sentence: str) -> None:
    assert not any(pattern(phrase).search(sentence) for phrase, _ in TERMS)


def test_many_texts_are_read() -> None:
    sources = {where.split(":")[0] for where, _ in texts()}
    assert len(texts()) > 2000
    assert {"README.md", "CHANGELOG.md", "bnfold.fold_export", "bench --help", "tutorial.ipynb"} <= sources
