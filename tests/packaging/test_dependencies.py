"""What is imported is declared, and what other packages keep for themselves is used for a reason that stands here."""

from __future__ import annotations

import ast
import functools
import re
import sys
import tomllib
from collections import defaultdict
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
BUNDLED = Path("bnfold/bundles/files")  # copied into bundles
CORE = ("errors.py", "folding", "graph", "numerics", "records", "cli")  # without any extra
DISTRIBUTIONS = packages_distributions()

PRIVATE = {
    # torch
    "torch.utils._pytree": "torch.export flattens inputs and outputs by it; torch documents no other name",
    "torch.utils._python_dispatch.TorchDispatchMode": "what torch's own notes on extending it name; it has no other",
    "torch.nn.modules.batchnorm._BatchNorm": "the one base class of BatchNorm1d to 3d, lazy and synchronised ones",
    "torch.nn.modules.batchnorm._NormBase": "of these and InstanceNorm: what holds running statistics",
    "torch.onnx._constants.ONNX_DEFAULT_OPSET": "the opset that the exporter writes by itself; nothing public names it",
    "._buffers": "put a tensor in the place of a buffer, whatever the class of the module makes of attributes",
    "._parameters": "likewise a parameter; keys without those of the children",
    "._modules": "likewise a child",
    "._forward_pre_hooks": "whether a module has hooks, which no public method tells",
    "._tensor_name": "which parameter a hook of torch.nn.utils.weight_norm or spectral_norm computes",
    "._schema": "the arguments of an operator in a dispatch mode; torch's own modes read it so",
    # onnx
    "onnx.external_data_helper._get_all_tensors": "all tensors of a model, those of attributes and subgraphs included",
    "._run": "of an operator of onnx.reference: what a subclass overrides, and may call",
    # onnx_ir
    "._expr": "a size as sympy's expression; SymbolicDim shows its text alone",
    # accelerate
    "._reset_state": "the state of accelerate is global, and a process may train twice",
}
"""Private name of another package -> why it is used. Attributes begin with a dot: their object's type is not known."""


def files(*folders: str) -> dict[Path, ast.Module]:
    """The Python of these folders of the repository, parsed."""
    paths = [path for folder in folders for path in sorted((REPOSITORY / folder).rglob("*.py"))]
    return {path.relative_to(REPOSITORY): parsed(path) for path in paths}


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module and name that is imported, absolutely, anywhere in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{name.name}" for name in node.names)


def distribution_names(requirements: list[str]) -> set[str]:
    """The distributions that requirements name, those of our own extras included."""
    found = set()
    for line in requirements:
        name, extras = re.match(r"([\w.-]+)(?:\[([\w,]+)\])?", line).groups()
        if name == PROJECT["name"]:
            found |= {name}.union(*(distribution_names(extra(key)) for key in extras.split(",")))
        else:
            found.add(name.lower().replace("_", "-"))
    return found


def extra(name: str) -> list[str]:
    requirements: list[str] = PROJECT["optional-dependencies"][name]
    return requirements


def undeclared(trees: dict[Path, ast.Module], declared: set[str], ours: set[str]) -> dict[str, list[str]]:
    """The top-level packages that no declared distribution brings, and where they are imported."""
    found = defaultdict(list)
    for path, tree in trees.items():
        for package in {name.partition(".")[0] for name in imported(tree)} - sys.stdlib_module_names - ours:
            brought_by = {name.lower().replace("_", "-") for name in DISTRIBUTIONS.get(package, [package])}
            if not brought_by & declared:
                found[package].append(str(path))
    return dict(found)


def test_what_bnfold_imports_is_declared() -> None:
    every = distribution_names(PROJECT["dependencies"] + [line for key in PROJECT["optional-dependencies"] for line in
                               extra(key)])  # fmt: skip
    trees = {path: tree for path, tree in files("bnfold", "models").items() if BUNDLED not in path.parents}
    assert undeclared(trees, every - distribution_names(["pytest", "hypothesis"]), {"bnfold"}) == {}


def test_what_a_bundle_imports_is_in_its_requirements() -> None:
    """Its scripts run where bnfold is not."""
    folder = REPOSITORY / BUNDLED
    lines = [line for file in folder.glob("*requirements.txt") for line in file.read_text().splitlines()]
    declared = distribution_names([line for line in lines if re.match(r"[a-z]", line)]) | {"onnxruntime"}  # @RUNTIME@
    trees = {path: tree for path, tree in files("bnfold").items() if BUNDLED in path.parents}
    assert len(trees) == 5
    assert undeclared(trees, declared, {path.stem for path in trees}) == {}


def test_what_scripts_and_tests_import_is_declared() -> None:
    """By an extra of those who develop it; their own modules lie beside them."""
    trees = files("scripts", "tests")
    for apart in ("triton_stand_in.py", "triton_backend/model.py"):  # run in an environment that a bundle has made
        del trees[Path("tests/bundles") / apart]
    ours = {"bnfold", *(path.stem for path in trees), *(part for path in trees for part in path.parent.parts)}
    declared = distribution_names(
        [*PROJECT["dependencies"], *extra("dev"), *extra("docs"), *extra("zoo"), *extra("hub")]
    )
    declared.add("huggingface-hub")  # comes with datasets, and its tests make a data set for both
    assert undeclared(trees, declared, ours) == {}


def test_the_core_imports_nothing_that_an_extra_brings() -> None:
    """Where a file is loaded, not where a function asks for a package on its own."""
    trees = {
        path: ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
        for path, tree in files("bnfold").items()
        if path.parts[1] in CORE
    }
    assert len(trees) > 100
    assert undeclared(trees, distribution_names(PROJECT["dependencies"]), {"bnfold"}) == {}


def test_a_missing_line_would_be_noticed() -> None:
    tree = ast.parse("import os, ml_dtypes\ndef f():\n    from google.protobuf.message import DecodeError\n")
    found = undeclared({Path("file.py"): tree}, {"numpy"}, set())
    assert found == {"ml_dtypes": ["file.py"], "google": ["file.py"]}
    assert undeclared({Path("file.py"): tree}, {"ml-dtypes", "protobuf"}, set()) == {}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def own_names(trees: dict[Path, ast.Module]) -> set[str]:
    """Private names that these files define: functions, fields, attributes of `self`."""
    names = set()
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                names.add(node.name)
            elif isinstance(node, ast.AnnAssign | ast.Assign):
                targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
                flat = [part for target in targets for part in getattr(target, "elts", [target])]
                names |= {part.attr for part in flat if isinstance(part, ast.Attribute) and is_self(part.value)}
                names |= {part.id for part in flat if isinstance(part, ast.Name)}
    return {name for name in names if is_private(name)}


def is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in {"self", "cls"}


def foreign(path: Path, tree: ast.Module, everywhere: set[str]) -> Iterator[tuple[str, str]]:
    """Private names of others in a file: imports, attributes that bnfold does not define, and those of the list."""
    where = f"{path}"
    for name in imported(tree):
        if not name.startswith("bnfold.") and any(map(is_private, name.split("."))):
            yield name, where
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and not is_self(node.value):
            dotted = ast.unparse(node)
            if dotted.startswith(("torch.", "nn.")):
                yield f"torch.{dotted.removeprefix('torch.')}", where
            elif f".{node.attr}" in PRIVATE or node.attr not in everywhere:
                yield f".{node.attr}", where


OURS = {("bnfold/verification/certificate/prover.py", "._parameters")}  # of a Prover, in its own class


@pytest.fixture(scope="module")
def found() -> dict[str, set[str]]:
    """Private names of others in bnfold, and the files that use them."""
    trees = files("bnfold")
    everywhere, names = own_names(trees), defaultdict(set)
    for path, tree in trees.items():
        for name, where in foreign(path, tree, everywhere):
            if (where, name) not in OURS:
                names[name].add(where)
    return dict(names)


def test_private_names_of_others_have_a_reason(found: dict[str, set[str]]) -> None:
    assert {name: sorted(places) for name, places in found.items() if name not in PRIVATE} == {}


def test_every_reason_is_still_needed(found: dict[str, set[str]]) -> None:
    assert sorted(set(PRIVATE) - set(found)) == []


def test_private_names_are_seen() -> None:
    text = "import torch\nfrom torch.utils import _pytree\nclass A:\n    def _own(self): return self._x\n"
    text += "def f(a, b): return a._own(), b._theirs, torch.nn.modules.conv._ConvNd\n"
    tree = ast.parse(text)
    seen = [name for name, _ in foreign(Path("file.py"), tree, own_names({Path("file.py"): tree}))]
    assert sorted(seen) == ["._theirs", "torch.nn.modules.conv._ConvNd", "torch.utils._pytree"]
