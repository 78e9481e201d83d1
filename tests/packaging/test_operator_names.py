"""Operators are named as text in the operator table and nowhere else."""

import ast
from collections.abc import Iterator
from pathlib import Path

import onnx.defs
import pytest

import bnfold
from bnfold.graph import operators
from bnfold.graph.float64_operators import OPERATORS as EVALUATED

ROOT = Path(bnfold.__file__).parent
NAMES = (
    {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
    | {evaluated.__name__ for evaluated in EVALUATED}
    | {known.name for known in operators.having(~operators.Trait(0))}
)
TABLE = "graph/operators.py"
# Files and folders that may name operators all the same, and why.
EXCEPTIONS = {
    "derivation/": "derives int8 and float16 files a second time, and shares no code with what wrote them, nor with "
    "the graph that this read: an import contract holds it to that",
    "records/sentences.py": "words for a report, by the operator that a record names; records lie below graph",
    "graph/float64_quantized_contrib.py": "ONNX's reference evaluator finds an operator by the name of its class, and "
    "these classes are made",
}
# Words that are an operator's name too, and mean something else: (file, word).
OTHER_WORDS = {
    ("benchmarking/axes.py", "Shape"),  # a type, for `cast`
    ("report/answers.py", "Equal"),  # a word of the page
    *(("graph/float64_recurrent.py", name) for name in ("Sigmoid", "Tanh")),  # activations of a cell, by attribute
    *(
        ("graph/float64_contrib.py", name)  # likewise
        for name in ("Clip", "HardSigmoid", "LeakyRelu", "Relu", "Sigmoid", "Tanh")
    ),
    ("graph/float64_contrib.py", "Gelu"),  # of a class, by which ONNX's reference evaluator finds it
}


def strings(tree: ast.Module) -> Iterator[ast.Constant]:
    """String constants that are values: no docstrings, no entries of `__all__`."""
    apart: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            apart.add(node.value)
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
            apart.update(ast.walk(node.value))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in apart:
            yield node


def named(source: str) -> list[tuple[int, str]]:
    """Line and name of each operator in a module's text."""
    return [(node.lineno, node.value) for node in strings(ast.parse(source)) if node.value in NAMES]


FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py") if "_models" not in path.parts)


@pytest.mark.parametrize("file", [file for file in FILES if not file.startswith((TABLE, *EXCEPTIONS))])
def test_only_the_table_names_operators(file: str) -> None:
    found = [(line, name) for line, name in named((ROOT / file).read_text("utf-8")) if (file, name) not in OTHER_WORDS]
    assert not found, f"{file} must take these names from bnfold.graph.operators: {found}"


@pytest.mark.parametrize("place", EXCEPTIONS)
def test_each_exception_is_needed(place: str) -> None:
    assert any(named((ROOT / file).read_text("utf-8")) for file in FILES if file.startswith(place))


def test_other_words_are_still_there() -> None:
    for file, word in OTHER_WORDS:
        assert word in {name for _, name in named((ROOT / file).read_text("utf-8"))}


FACTS = {"Trait", "having", "in_integers", "channels", "cost", "has"}


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("verification/certificate/")])
def test_what_checks_a_certificate_takes_names_of_the_table_and_no_facts(file: str) -> None:
    """A fact that is wrong would be wrong in the fold and in its proof alike."""
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    read = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not (names | read) & FACTS


def test_the_search_finds_a_name() -> None:
    assert named('"""Conv."""\n__all__ = ["Split"]\nif kind == "Conv":\n    "Gemm"\n') == [(3, "Conv")]
