"""docs/errors.md: every error that bnfold raises, read from the code: what, where, found, expected, what to do.

    python scripts/error_table.py [--check]

`--check` writes nothing and ends with exit code 1 where the page is not what would be written.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path

from common.tables import markdown_table

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "errors.md"
EXIT_CODES = {
    "GateFailed": "1",
    "BnfoldError": "1",
    "InputRefused": "3",
    "EnvironmentNotReady": "4",
    "unwritable": "3 or 4",
}
FIELDS = ("where", "found", "expected", "remedy")
DULL = {  # names in an expression that say nothing of its value
    "described", "first_names", "getattr", "join", "len", "map", "repr", "self", "shape_text", "sorted", "split", "str",
}  # fmt: skip
# Rooms by what the user was doing, in the order of the page: a heading, and what the paths begin with.
ROOMS = (
    ("Commands and their arguments", ("cli/", "workflows/", "report/", "errors.py")),
    ("Sources, weights and inputs", ("sources/", "records/input_shapes.py")),
    ("Folding and export", ("folding/", "graph/", "export/", "modules/")),
    ("Verification", ("verification/",)),
    ("Measuring and the machine", ("benchmarking/", "runtime/")),
    ("Training and running statistics", ("training/", "calibration/")),
    ("Bundles", ("bundles/",)),
    ("Accuracy, int8 and float16", ("evaluation/", "quantisation/", "derivation/")),
)
HEAD = """# Errors

Every error of bnfold is one line, `error: what in where: found X, expected Y; what to do`, and one exit code. These are
all of them, as the code has them; *slanted* is what differs from case to case. `scripts/error_table.py` writes it.
A remedy names the options of the command line. A Python function has an argument of the same name for nearly every one:
`--force` is `force=True`, `-o DIR` is `output`, `--inputs` is `inputs`, `--input-shape` is `input_shapes`, a list.
"""
CODES = (
    ("1", "`GateFailed`", "a check failed: not equal, slower than allowed, accuracy lost"),
    ("2", "", "wrong usage of the command line, said by the usage itself"),
    ("3", "`InputRefused`", "unreadable, damaged, not foldable safely, unsupported"),
    ("4", "`EnvironmentNotReady`", "a missing package, a provider that does not load, a full disk"),
    ("70", "any other", "a fault of bnfold: `-v` prints the traceback to report"),
)


@dataclass(frozen=True)
class Raised:
    """An error as it stands in the code: its place, the class, and its texts by field, None where it has none."""

    file: str
    line: int
    kind: str
    what: str
    texts: dict[str, str | None]


class _Reader(ast.NodeVisitor):
    """Collects the errors of a module; texts that are names are looked up in the function and in the module."""

    def __init__(self, file: str, tree: ast.Module) -> None:
        self.file, self.found = file, list[Raised]()
        self._known = [_assigned(tree)]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Names of the function come first while its body is read."""
        self._known.append(_assigned(node))
        self.generic_visit(node)
        self._known.pop()

    def visit_Call(self, node: ast.Call) -> None:
        """An error that is made here."""
        self.generic_visit(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name not in EXIT_CODES or not node.args:
            return
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        texts = {field: self._text(given[field]) if field in given else None for field in FIELDS}
        if name == "unwritable":
            texts["found"] = "*what the system says*"
        self.found.append(Raised(self.file, node.lineno, name, self._text(node.args[0]), texts))

    def _text(self, node: ast.expr) -> str:
        """An expression as a reader sees it: strings as they are, everything else slanted, by its name."""
        match node:
            case ast.Constant(value=str(text)):
                return text
            case ast.JoinedStr(values=values):
                return "".join(self._text(value) for value in values)
            case ast.FormattedValue(value=value):
                return self._text(value) if isinstance(value, ast.IfExp | ast.Constant) else _slanted(value)
            case ast.IfExp(body=body, orelse=other):
                texts = [self._text(part) for part in (body, other)]
                return " / ".join(text for text in texts if text and text != "*none*")
            case ast.BinOp(op=ast.Add(), left=left, right=right):
                return self._text(left) + self._text(right)
            case ast.Call(func=ast.Name(id="nearest"), keywords=[*_, ast.keyword(arg="listing", value=value)]):
                return f"*the nearest name*, or: {self._text(value)}"
            case ast.Name(id=name):
                for known in reversed(self._known):
                    if name in known:
                        return self._text(known[name])
                return _slanted(node)
            case _:
                return _slanted(node)


def _assigned(scope: ast.AST) -> dict[str, ast.expr]:
    """The names that a scope assigns once, to a text."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, []).append(node.value)
    texts = (ast.Constant, ast.JoinedStr)
    return {
        name: values[0] for name, values in found.items() if len(values) == 1 and isinstance(values[0], texts)
    }  # fmt: skip


def _slanted(node: ast.expr) -> str:
    """A value by a word for it: the last name in it that says something."""
    parts = [part for part in ast.walk(node) if isinstance(part, ast.Attribute | ast.Name)]
    words = [part.attr if isinstance(part, ast.Attribute) else part.id for part in parts]
    word = next((word for word in words if word not in DULL), "value")
    return f"*{word.strip('_').replace('_', ' ').lower()}*"


@cache
def errors(package: Path = ROOT / "bnfold") -> tuple[Raised, ...]:
    """Every error of the package, in the order of its files."""
    found = list[Raised]()
    for path in sorted(package.rglob("*.py")):
        file = str(path.relative_to(package))
        reader = _Reader(file, tree := ast.parse(path.read_text()))
        reader.visit(tree)
        found += [raised for raised in reader.found if not re.fullmatch(r"\*[\w ]+\*", raised.what)]  # handed on
    return tuple(found)


def page() -> str:
    """The page: a table for each room."""
    codes = markdown_table(("exit code", "Python exception (`bnfold.errors`)", "meaning"), CODES)
    lines = [HEAD, f"{codes}\n"]
    all_of_them = errors()
    for heading, begins in ROOMS:
        own = [raised for raised in all_of_them if raised.file.startswith(begins)]
        rows = [row for row, _ in groupby(sorted(_row(raised) for raised in own))]
        table = markdown_table(("code", "what", "where", "found", "expected", "do"), rows, right=(0,))
        lines += [f"## {heading}\n", f"{table}\n"]
    return "\n".join(lines).rstrip() + "\n"


def _row(raised: Raised) -> list[str]:
    cells = [EXIT_CODES[raised.kind], raised.what, *(raised.texts[field] or "" for field in FIELDS)]
    return [_cell(cell) for cell in cells]


def _cell(text: str) -> str:
    """A text that a table can hold."""
    once = re.sub(r"(\*[\w ]+\*)\1", r"\1", " ".join(text.split())).replace("**", "* *")
    plain = re.sub(r"(?<=[\w:/])_(?=\w)", r"\_", once)
    return plain.replace("<", "&lt;")


def main() -> int:
    """Write the page, or say that it is out of date."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, say whether the page is out of date")
    if parser.parse_args().check:
        if PAGE.is_file() and PAGE.read_text() == page():
            return 0
        print("error: docs/errors.md is not what the code raises; run python scripts/error_table.py", file=sys.stderr)
        return 1
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
