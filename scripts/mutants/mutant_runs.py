"""Run the tests against one changed module, in a copy of the repository."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import hypothesis
import pytest
from mutant_operators import Mutant
from mutant_targets import RULES, first_tests, later_tests, operators_of

__all__ = ["Outcome", "Workshop"]

_LIMIT_S = 240  # of processor time, so that what else runs on the machine kills no mutant
_LIMIT_WALL_S = 8.0 * _LIMIT_S
# What the tests import, so that each child need not: nothing of bnfold itself.
_LIBRARIES = (
    "numpy", "scipy.linalg", "scipy.sparse.csgraph", "scipy.special", "onnx.reference", "onnx.inliner", "onnx.parser",
    "onnx_ir.passes.common", "onnxscript.optimizer", "onnxruntime", "hypothesis.strategies", "click.testing",
    "rich.console",
)  # fmt: skip
# The libraries that are imported already cannot have their assertions rewritten, which matters to none of our tests.
_OPTIONS = ("-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: `killed` by the first test that failed, else by a command, or `survived`."""

    state: str
    by: str
    seconds: float


class Workshop:
    """A copy of the package and its tests, in which one module at a time is changed.

    Args:
        root: the repository.
        also: a command that runs in the copy where the tests pass; it kills by an exit code other than 0.
    """

    def __init__(self, root: Path, also: str | None = None) -> None:
        for library in _LIBRARIES:
            importlib.import_module(library)
        if "bnfold" in sys.modules:
            raise RuntimeError("bnfold must not be imported before a child imports its changed copy")
        self._held = tempfile.TemporaryDirectory(prefix="mutant")
        self.copy = Path(self._held.name)
        self._also = shlex.split(also) if also else None
        for name in ("bnfold", "tests"):
            shutil.copytree(root / name, self.copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(root / "pyproject.toml", self.copy)
        passed, by = self._in_a_fork(["tests/numerics/test_affine.py", f"{RULES}/test_registry.py"], [])
        if not passed:
            raise RuntimeError(f"the tests fail without a change: {by}")

    def try_out(self, mutant: Mutant, *, first_only: bool) -> Outcome:
        """Change the module, run the tests until one fails, and put the module back.

        With `first_only` those that most likely tell are run: what they let pass is `open`. Without, all others.
        """
        path = self.copy / "bnfold" / mutant.path
        kept, started = path.read_text(encoding="utf-8"), time.monotonic()
        path.write_text(mutant.source, encoding="utf-8")
        try:
            state, by = self._verdict(mutant, first_only=first_only)
        finally:
            path.write_text(kept, encoding="utf-8")
        return Outcome(state, by, round(time.monotonic() - started, 1))

    def _verdict(self, mutant: Mutant, *, first_only: bool) -> tuple[str, str]:
        files = first_tests(mutant.path) if first_only else later_tests(self.copy, mutant.path)
        passed, by = self._in_a_fork(files, operators_of(mutant.path, self.copy))
        if not passed:
            return "killed", by
        if first_only:
            return "open", ""
        types = subprocess.run(
            [sys.executable, "-m", "mypy", f"bnfold/{mutant.path}"], cwd=self.copy, check=False, capture_output=True
        )
        if types.returncode:
            return "killed", "mypy --strict"
        if self._also is not None:
            environment = {**os.environ, "PYTHONPATH": str(self.copy)}
            done = subprocess.run(self._also, cwd=self.copy, env=environment, check=False, capture_output=True)
            if done.returncode:
                return "killed", " ".join(self._also)
        return "survived", ""

    def _in_a_fork(self, files: list[str], first: list[str]) -> tuple[bool, str]:
        """Run pytest in a child that has all libraries imported already, but nothing of bnfold."""
        context = multiprocessing.get_context("fork")
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=_run_pytest, args=(self.copy, files, first, sender))
        child.start()
        sender.close()
        try:
            told = receiver.recv() if receiver.poll(_LIMIT_WALL_S) else (False, f"not done within {_LIMIT_WALL_S} s")
        except EOFError:
            child.join(5)
            ran_out = child.exitcode == -signal.SIGXCPU
            told = (False, f"not done within {_LIMIT_S} s of processor time" if ran_out else "the interpreter died")
        child.join(5)
        if child.is_alive():
            child.kill()
            child.join()
        return bool(told[0]), str(told[1])


class _Watcher:
    """A pytest plugin: puts the tests of some operators first, and notes the first failure."""

    def __init__(self, first: list[str]) -> None:
        self.first = first
        self.failed = ""

    def pytest_collection(self) -> None:
        """Look for one failing example, not for the smallest; behind the settings of tests/conftest.py."""
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile("mutants", deadline=None, phases=phases)
        hypothesis.settings.load_profile("mutants")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: not any(f"[{name}]" in item.nodeid for name in self.first))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = self.failed or report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed = self.failed or report.nodeid


def _run_pytest(copy: Path, files: list[str], first: list[str], sender: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (_LIMIT_S, _LIMIT_S + 5))
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    os.chdir(copy)
    sys.path.insert(0, str(copy))
    sys.dont_write_bytecode = True
    watcher, told = _Watcher(first), (False, "pytest itself")
    try:
        code = pytest.main([*_OPTIONS, *files], plugins=[watcher])
        told = (code == 0, watcher.failed or f"exit code {int(code)}")
    finally:
        sender.send(told)
        os._exit(0)
