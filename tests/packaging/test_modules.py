"""The modules of the package: none imports itself by way of others, and none is longer than a reader can hold."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "bnfold"
MAX_LINES = 250


def name_of(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST, modules: Mapping[str, object]) -> Iterator[str]:
    """The modules that a module names in any import: of a function, and for type checking, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in modules:
                    yield inner
                elif node.module in modules:
                    yield node.module


def circle(package: Path) -> list[str]:
    """The modules of a circle of imports, the first one again at the end; empty where there is none."""
    trees = {name_of(path, package): ast.parse(path.read_text("utf-8")) for path in package.rglob("*.py")}
    graph = {name: set(imported(tree, trees)) - {name} for name, tree in trees.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert circle(PACKAGE) == []


@pytest.mark.parametrize(
    "second",
    [
        "import p.first",
        "from p import first",
        "from p.first import f",
        "def g():\n    from p.first import f",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.first import f",
    ],
)
def test_a_circle_is_found(tmp_path: Path, second: str) -> None:
    package = tmp_path / "p"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "first.py").write_text("from p.inner import x\n")
    (package / "inner").mkdir()
    (package / "inner" / "__init__.py").write_text("from p.second import y\n")
    (package / "second.py").write_text(second)
    assert sorted(set(circle(package))) == ["p.first", "p.inner", "p.second"]


@pytest.mark.parametrize("folder", [PACKAGE, REPOSITORY / "scripts"], ids=lambda folder: folder.name)
def test_no_module_is_long(folder: Path) -> None:
    lengths = {
        path.relative_to(folder).as_posix(): len(path.read_text("utf-8").splitlines()) for path in folder.rglob("*.py")
    }
    assert lengths
    assert [name for name, length in lengths.items() if length > MAX_LINES] == []


def test_one_module_inlines() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if {"inliner", "InlinePass"} & set(re.findall(r"\w+", path.read_text("utf-8")))
    }
    assert found == {"graph/inlined.py"}
