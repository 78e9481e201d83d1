"""Every place in `bnfold.folding` that refuses, read from its syntax tree, and which of them a call has met.

A site is known by file, function, cause and part, with `{}` for a part that is not written there.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bnfold.folding
from bnfold.folding.units import Refusal
from bnfold.records.causes import Cause

__all__ = ["noted", "sites"]

ROOT = Path(bnfold.folding.__file__).parent


def sites() -> set[str]:
    """`relations/layout.py:relate_pad: not_constant axes`, and so on."""
    found: set[str] = set()
    for path in sorted(ROOT.rglob("*.py")):
        here = path.relative_to(ROOT).as_posix()
        for function, call in _calls(ast.parse(path.read_text(encoding="utf-8")), ""):
            found.add(f"{here}:{function}: {_key(call)}")
    return found


def _calls(tree: ast.AST, function: str) -> Iterator[tuple[str, ast.Call]]:
    """Each `Refusal(...)` with the function around it."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Call) and isinstance(child.func, ast.Name) and child.func.id == "Refusal":
            yield function, child
        yield from _calls(child, child.name if isinstance(child, ast.FunctionDef) else function)


def _key(call: ast.Call) -> str:
    """The cause and the part, as they are written: a cause is always one of the enumeration."""
    cause, *rest = call.args
    assert isinstance(cause, ast.Attribute), ast.unparse(call)
    part = rest[0] if rest else ast.Constant("")
    return f"{Cause[cause.attr].value} {part.value if isinstance(part, ast.Constant) else '{}'}".rstrip()


@contextlib.contextmanager
def noted() -> Iterator[list[str]]:
    """The sites that refuse meanwhile, in the order in which they do."""
    met: list[str] = []
    known = sites()

    class Noted(Refusal):
        def __init__(self, cause: Cause, part: str = "", found: str = "") -> None:
            super().__init__(cause, part, found)
            caller = sys._getframe(1).f_code
            here = f"{Path(caller.co_filename).relative_to(ROOT).as_posix()}:{caller.co_name}: "
            written = f"{here}{cause.value} {part}".rstrip()
            met.append(written if written in known else f"{here}{cause.value} {{}}")

    with pytest.MonkeyPatch.context() as patch:
        for info in pkgutil.walk_packages(bnfold.folding.__path__, "bnfold.folding."):
            module = importlib.import_module(info.name)
            if getattr(module, "Refusal", None) is Refusal:
                patch.setattr(module, "Refusal", Noted)
        yield met
