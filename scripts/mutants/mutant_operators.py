"""One-place changes of a module, from its syntax tree: each operator yields a node and the text to put in its place."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

__all__ = ["OPERATORS", "Mutant", "mutants_of"]

Change = tuple[ast.expr | ast.stmt, str]
Operator = Callable[[ast.AST], Iterator[Change]]

_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==", ast.In: "not in",
    ast.NotIn: "in", ast.Is: "is not", ast.IsNot: "is",
}  # fmt: skip
_DEFAULTS: dict[object, str] = {0: "1", 1: "0", "NOTSET": '"VALID"', -1: "0", "constant": '"edge"'}
_TWINS = {"any": "all", "all": "any", "min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum"}


@dataclass(frozen=True)
class Mutant:
    """A module with one change: `before` and `after` are what is changed, `source` is the whole module."""

    path: str
    line: int
    operator: str
    before: str
    after: str
    function: str
    source: str

    @property
    def key(self) -> str:
        """The same as long as the module is the same around the change."""
        text = "\0".join((self.path, self.function, str(self.line), self.operator, self.before, self.after))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _text(node: ast.AST) -> str:
    return f"({ast.unparse(node)})"


def negate_guard(node: ast.AST) -> Iterator[Change]:
    """`if a` becomes `if not a`, in statements, expressions and comprehensions."""
    if isinstance(node, ast.If | ast.IfExp) and ast.unparse(node.test) != "TYPE_CHECKING":
        yield node.test, f"not {_text(node.test)}"
    elif isinstance(node, ast.comprehension):
        for test in node.ifs:
            yield test, f"not {_text(test)}"


def drop_term(node: ast.AST) -> Iterator[Change]:
    """One operand of `and`, `or`, a sum or a difference goes; not `x is None`, which mypy asks for."""
    if isinstance(node, ast.BoolOp):
        joined = " and " if isinstance(node.op, ast.And) else " or "
        for k, dropped in enumerate(node.values):
            if _compares_with_none(dropped):
                continue
            yield node, f"({joined.join(_text(value) for i, value in enumerate(node.values) if i != k)})"
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        yield node, _text(node.left)
        yield node, _text(node.right)


def _compares_with_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Is | ast.IsNot)


def flip_sign(node: ast.AST) -> Iterator[Change]:
    """`a + b` becomes `a - b` and back, `-a` becomes `a`."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        sign = "-" if isinstance(node.op, ast.Add) else "+"
        yield node, f"({_text(node.left)} {sign} {_text(node.right)})"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
        yield node, _text(node.operand)


def flip_product(node: ast.AST) -> Iterator[Change]:
    """`a * b` becomes `a / b` and back; `*` with a list or string stays."""
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Mult | ast.Div):
        return
    if not any(isinstance(side, ast.List | ast.Tuple) for side in (node.left, node.right)):
        sign = "/" if isinstance(node.op, ast.Mult) else "*"
        yield node, f"({_text(node.left)} {sign} {_text(node.right)})"


def move_bound(node: ast.AST) -> Iterator[Change]:
    """`<` becomes `<=`, `==` becomes `!=`, `in` becomes `not in`, and back."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield node, f"({_text(node.left)} {_COMPARISONS[type(node.ops[0])]} {_text(node.comparators[0])})"


def other_connective(node: ast.AST) -> Iterator[Change]:
    """`and` becomes `or` and back."""
    if isinstance(node, ast.BoolOp):
        word = " or " if isinstance(node.op, ast.And) else " and "
        yield node, f"({word.join(map(_text, node.values))})"


def other_axis(node: ast.AST) -> Iterator[Change]:
    """An axis, index or count of -2 to 3 becomes its neighbour."""
    places: Sequence[ast.AST] = []
    if isinstance(node, ast.Call):
        places = [*node.args, *(word.value for word in node.keywords if word.arg in {"axis", "axes"})]
    elif isinstance(node, ast.Subscript):
        places = [node.slice]
    elif isinstance(node, ast.Compare):
        places = node.comparators
    for place in places:
        number = _number(place)
        if number is not None and isinstance(place, ast.expr) and -2 <= number <= 3:
            yield place, str(number + 1 if number == 0 else number - 1)


def _number(node: ast.AST) -> int | None:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        held = node.operand.value
        return -held if type(held) is int else None
    return node.value if isinstance(node, ast.Constant) and type(node.value) is int else None


def other_attribute(node: ast.AST) -> Iterator[Change]:
    """A node's attribute is read under another name, or has another default."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "attribute":
        name, default = node.args[1], node.args[2]
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            yield name, repr(f"{name.value}_")
        value = _number(default) if _number(default) is not None else getattr(default, "value", None)
        if type(value) in (int, float, str) and value in _DEFAULTS:
            yield default, _DEFAULTS[value]
        elif isinstance(default, ast.Tuple) and not default.elts:
            yield default, "(2,)"


def swap_arguments(node: ast.AST) -> Iterator[Change]:
    """The first two arguments of a call, or of a tuple that is no target, change places."""
    pair = node.args[:2] if isinstance(node, ast.Call) else node.elts if isinstance(node, ast.Tuple) else []
    if len(pair) != 2 or any(isinstance(part, ast.Starred | ast.GeneratorExp) for part in pair):
        return
    first, second = map(ast.unparse, pair)
    if first == second or (isinstance(node, ast.Call) and _is_a_check(node)):
        return
    if isinstance(node, ast.Call):
        rest = [ast.unparse(part) for part in [*node.args[2:], *node.keywords]]
        yield node, f"{ast.unparse(node.func)}({', '.join([second, first, *rest])})"
    elif isinstance(node, ast.Tuple) and isinstance(node.ctx, ast.Load):
        slices = any(isinstance(part, ast.Slice) for part in pair)
        yield node, f"{second}, {first}" if slices else f"({second}, {first})"


def _is_a_check(node: ast.Call) -> bool:
    """A call of a fixed form, or one whose arguments may change places."""
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    return name in {"isinstance", "attribute", "getattr", "broadcast_shapes", "maximum", "minimum", "gcd"}


def drop_call(node: ast.AST) -> Iterator[Change]:
    """A statement that only calls something goes."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield node, "pass"


def drop_member(node: ast.AST) -> Iterator[Change]:
    """One word goes from a set, tuple or list of words."""
    if isinstance(node, ast.Tuple | ast.Set | ast.List) and len(node.elts) > 1:
        words = [part for part in node.elts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        if len(words) == len(node.elts):
            for word in words:
                yield word, repr(f"{word.value!s}_")


def twin_function(node: ast.AST) -> Iterator[Change]:
    """`any` becomes `all`, `min` becomes `max`, and back."""
    if isinstance(node, ast.Call):
        if isinstance(node.func, ast.Name) and node.func.id in _TWINS:
            yield node.func, _TWINS[node.func.id]
        elif isinstance(node.func, ast.Attribute) and node.func.attr in _TWINS:
            yield node.func, f"{ast.unparse(node.func.value)}.{_TWINS[node.func.attr]}"


OPERATORS: tuple[Operator, ...] = (
    negate_guard, drop_term, flip_sign, flip_product, move_bound, other_connective, other_axis, other_attribute,
    swap_arguments, drop_call, drop_member, twin_function,
)  # fmt: skip


def mutants_of(path: str, source: str) -> list[Mutant]:
    """Every mutant of a module; `path` is how it is named."""
    starts = [0]
    for line in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    raw, found = source.encode(), dict[tuple[int, int, str], Mutant]()
    for node, function in _computing(ast.parse(source), ""):
        for operator in OPERATORS:
            for target, text in operator(node):
                start = starts[target.lineno - 1] + target.col_offset
                end = starts[(target.end_lineno or target.lineno) - 1] + (target.end_col_offset or 0)
                changed = (raw[:start] + text.encode() + raw[end:]).decode()
                before = " ".join(raw[start:end].decode().split())
                name = operator.__name__.replace("_", "-")
                if not _is_the_same(target, text):
                    found[start, end, text] = Mutant(path, target.lineno, name, before, text, function, changed)
    return list(found.values())


def _is_the_same(target: ast.AST, text: str) -> bool:
    """Whether a change is none but for its brackets."""
    try:
        return ast.unparse(ast.parse(text)) == ast.unparse(target)
    except SyntaxError:  # a slice, which is Python inside brackets only
        return False


def _computing(tree: ast.AST, function: str) -> Iterator[tuple[ast.AST, str]]:
    """The nodes that compute something, each with the function around it; not `tree` itself.

    No annotations, decorators, defaults, imports, sentences or raised errors.
    """
    if isinstance(tree, ast.FunctionDef):
        parts: Iterable[ast.AST] = tree.body
        function = tree.name
    elif isinstance(tree, ast.ClassDef):
        parts = tree.body
    elif isinstance(tree, ast.AnnAssign):
        parts = [tree.value] if tree.value is not None else []
    else:
        parts = ast.iter_child_nodes(tree)
    for part in parts:
        if isinstance(part, ast.Raise | ast.Import | ast.ImportFrom | ast.JoinedStr | ast.Assert):
            continue
        if isinstance(part, ast.Assign) and any(getattr(target, "id", "") == "__all__" for target in part.targets):
            continue
        yield part, function
        yield from _computing(part, function)
