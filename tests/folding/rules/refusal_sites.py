"""Every place in `bnfold.folding` that refuses, read from its syntax tree, and which of them a call has met.

A site is known by file, function and sentence, with `{}` for what an f-string fills in.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bnfold.folding
from bnfold.folding.units import Refusal

__all__ = ["noted", "sites"]

ROOT = Path(bnfold.folding.__file__).parent


def sites() -> set[str]:
    """`relations/layout.py:relate_pad: its axes are not constant`, and so on."""
    found: set[str] = set()
    for path in sorted(ROOT.rglob("*.py")):
        here = path.relative_to(ROOT).as_posix()
        for function, call in _calls(ast.parse(path.read_text(encoding="utf-8")), ""):
            found.add(f"{here}:{function}: {_template(call.args[0])}")
    return found


def _calls(tree: ast.AST, function: str) -> Iterator[tuple[str, ast.Call]]:
    """Each `Refusal(...)` with the function around it."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Call) and isinstance(child.func, ast.Name) and child.func.id == "Refusal":
            yield function, child
        yield from _calls(child, child.name if isinstance(child, ast.FunctionDef) else function)


def _template(sentence: ast.expr) -> str:
    parts = sentence.values if isinstance(sentence, ast.JoinedStr) else [sentence]
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)


@contextlib.contextmanager
def noted() -> Iterator[list[str]]:
    """The sites that refuse meanwhile, in the order in which they do."""
    met: list[str] = []
    known = sites()

    class Noted(Refusal):
        def __init__(self, reason: str) -> None:
            super().__init__(reason)
            caller = sys._getframe(1).f_code
            here = f"{Path(caller.co_filename).relative_to(ROOT).as_posix()}:{caller.co_name}: "
            fitting = [site for site in known if site.startswith(here) and _fits(site.removeprefix(here), reason)]
            met.append(max(fitting, key=len))  # `{}` alone fits whatever the others say

    with pytest.MonkeyPatch.context() as patch:
        for info in pkgutil.walk_packages(bnfold.folding.__path__, "bnfold.folding."):
            module = importlib.import_module(info.name)
            if getattr(module, "Refusal", None) is Refusal:
                patch.setattr(module, "Refusal", Noted)
        yield met


def _fits(template: str, reason: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, template.split("{}"))), reason) is not None
