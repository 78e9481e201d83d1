"""Which modules are changed, which tests look at each first, and which mutants are drawn."""

from __future__ import annotations

import json
import random
from pathlib import Path

from mutant_operators import Mutant, mutants_of

__all__ = ["RULES", "draw", "every_mutant", "first_tests", "later_tests", "operators_of", "reason"]

_FOLDING, RULES = "tests/folding", "tests/folding/rules"
_SOLVERS = ("test_solvers", "test_joins", "test_constant_channels", "test_traps", "test_regressions")
# By module, relative to bnfold: the tests that most likely tell, in order.
_FIRST: dict[str, tuple[str, ...]] = {
    "folding/merge.py": ("test_merge", "test_ranges", "test_channel_blocks"),
    "folding/blocked_scales.py": ("test_merge", "test_channel_blocks"),
    "folding/terms.py": ("test_merge",),
    "numerics/convolution.py": ("../numerics/test_convolution", "test_merge"),
    "numerics/affine.py": ("../numerics/test_affine", "test_linear_operators"),
    "folding/prune.py": (
        "test_named_channels",
        "test_dead_channels",
        "test_dead_channels_random",
        "test_constant_channels",
    ),
    "folding/trace.py": (
        "test_named_channels",
        "test_dead_channels",
        "test_dead_channels_random",
        "test_constant_channels",
    ),
    "folding/trace_pointwise.py": (
        "test_named_channels",
        "test_dead_channels",
        "test_dead_channels_random",
        "test_constant_channels",
    ),
    "folding/apply.py": ("test_linear_operators", "test_traps", "test_regressions"),
    "folding/gauge.py": ("test_linear_operators", "test_constant_channels"),
    "folding/ranges.py": ("test_ranges", "test_regressions", "test_traps", "test_linear_operators"),
    "folding/choose.py": _SOLVERS,
    "folding/classes.py": _SOLVERS,
    "folding/scales.py": _SOLVERS,
    "folding/offsets.py": _SOLVERS,
    "folding/compose.py": ("test_decomposed_batchnorm",),
    "folding/decomposed.py": ("test_decomposed_batchnorm",),
    "folding/shifted_relu.py": ("test_shifted_relu", "test_traps"),
}
# They measure time and memory, or convert whole networks.
_NOT_RUN = frozenset({"test_large_graphs.py", "test_survey.py"})


def modules(root: Path) -> list[str]:
    """The modules that are changed, relative to bnfold: those of the rules, then the others."""
    rules = sorted(p.relative_to(root / "bnfold").as_posix() for p in (root / "bnfold/folding/relations").glob("*.py"))
    return [name for name in rules if not name.endswith("__init__.py")] + list(_FIRST)


def every_mutant(root: Path) -> dict[str, list[Mutant]]:
    """All mutants by module."""
    return {name: mutants_of(name, (root / "bnfold" / name).read_text(encoding="utf-8")) for name in modules(root)}


def draw(found: dict[str, list[Mutant]], count: int, seed: int) -> list[Mutant]:
    """`count` mutants: one of each module, the rest by chance from all."""
    chance = random.Random(seed)  # noqa: S311 - a sample, not a secret
    drawn = [chance.choice(mutants) for mutants in found.values() if mutants][:count]
    rest = [mutant for mutants in found.values() for mutant in mutants if mutant not in drawn]
    return drawn + chance.sample(rest, min(count - len(drawn), len(rest)))


def first_tests(name: str) -> list[str]:
    """The files that most likely tell of a module."""
    if name.startswith("folding/relations/"):
        own = {"registry.py": ["test_registry"], "operands.py": ["test_operands"]}.get(Path(name).name, [])
        order = dict.fromkeys([*own, "test_refusals", "test_operands", "test_registry", "test_rules"])
        return [f"{RULES}/{test}.py" for test in order]
    return [f"tests/{t[3:]}.py" if t.startswith("../") else f"{_FOLDING}/{t}.py" for t in _FIRST[name]]


def later_tests(root: Path, name: str) -> list[str]:
    """All other fast tests of the fold."""
    files = sorted((root / _FOLDING).glob("test_*.py")) + sorted((root / RULES).glob("test_*.py"))
    names = [path.relative_to(root).as_posix() for path in files if path.name not in _NOT_RUN]
    return [test for test in names if test not in first_tests(name) and "float64" not in test]


def operators_of(name: str, root: Path) -> list[str]:
    """The operators that a module of rules names in its decorators: their tests run first."""
    text = (root / "bnfold" / name).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith(("@relation", "@rewrites"))]
    if name.endswith("attention.py"):
        return ["MatMul"]
    return sorted({word for line in lines for word in line.split('"')[1::2] if word[:1].isupper()})


def reason(mutant: Mutant) -> str | None:
    """Why a mutant computes the same, if that is argued."""
    argued = json.loads((Path(__file__).parent / "equivalent.json").read_text(encoding="utf-8"))
    for entry in argued:
        same = all(entry[k] == getattr(mutant, k) for k in ("path", "function", "operator", "before", "after"))
        if same:
            return str(entry["why"])
    return None
