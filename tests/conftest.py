"""What every test may use: the command line, a small network, hypothesis without deadlines, the machine to itself."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import inspect
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.parser
import pytest
from click.testing import CliRunner
from hypothesis import settings
from onnx import numpy_helper

from bnfold.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from click.testing import Result

    from bnfold.benchmarking.cold_start import ColdStart

# A deadline measures the machine, not the code.
settings.register_profile("bnfold", deadline=None)
settings.load_profile("bnfold")

# Shells start jobs in the background, and nohup, with these ignored, which children inherit. Tests send them.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Turns:
    """Lets the workers of pytest-xdist run their tests side by side, and one marked `alone` while the others wait.

    Two locked files: every test holds the room, shared or, where it is alone, exclusive; who waits for the room holds
    the door, so that nobody enters before. A worker whose next test is alone, too, stays. The lock of a process that
    dies is open.
    """

    def __init__(self, folder: Path) -> None:
        self.door, self.room = ((folder / name).open("w") for name in ("door.lock", "room.lock"))
        self.is_kept = False

    @contextmanager
    def taken(self, *, alone: bool, keep: bool) -> Iterator[None]:
        """A test's turn."""
        if not self.is_kept:
            fcntl.flock(self.door, fcntl.LOCK_EX)
            fcntl.flock(self.room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            fcntl.flock(self.door, fcntl.LOCK_UN)
        self.is_kept = alone and keep
        try:
            yield
        finally:
            if not self.is_kept:
                fcntl.flock(self.room, fcntl.LOCK_UN)


TURNS = pytest.StashKey[Turns]()
WARM = (
    "test_readme.py",
    "test_docs.py",
    "test_tutorial.py",
    "test_resume.py",
    "test_processes.py",
    "test_warm_python.py",
)
FIRST = (*WARM, "test_wheel.py")


def pytest_configure(config: pytest.Config) -> None:
    """Where several workers run this suite, they take turns; the width that they are told is no terminal's."""
    os.environ.pop("COLUMNS", None)
    if hasattr(config, "workerinput"):
        config.stash[TURNS] = Turns(Path(config.getoption("basetemp")).parent)  # each has a folder of its own in there


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest begin, so that no worker is left with one of them while the others have ended.

    Those that use `warm_python` stand together: the first worker has them all, and no other imports what it imports.
    """
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))


def pytest_collection_finish() -> None:
    """What is imported by now stays: the garbage collector need not look through it, and looks less often.

    https://docs.python.org/3/library/gc.html#gc.freeze
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """Run a test, with its fixtures, when it is its turn."""
    turns = item.config.stash.get(TURNS, None)
    if turns is None:
        return (yield)
    keep = nextitem is not None and nextitem.get_closest_marker("alone") is not None
    with turns.taken(alone=item.get_closest_marker("alone") is not None, keep=keep):
        return (yield)


@pytest.fixture(autouse=True, scope="session")
def no_measurement_by_default() -> Iterator[None]:
    """`fold_export`, and the command with it, measures only where a test gives a budget: else each call took 3 s."""
    from bnfold.workflows.fold_export import fold_export

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(inspect.unwrap(fold_export).__kwdefaults__, "budget_s", 0.0)
        yield


@pytest.fixture(autouse=True)
def cold_starts_without_a_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cold start opens its file in this process, but where the process is what is tested: marked `cold_process`."""
    if request.node.get_closest_marker("cold_process") is not None:
        return
    from bnfold.benchmarking import cold_start

    def start(_path: Path, job: str) -> ColdStart:
        return cold_start._cold_start(json.loads(job))

    monkeypatch.setattr(cold_start, "_start_process", start)


@pytest.fixture
def cli() -> Callable[..., Result]:
    """Run `bnfold` with arguments in this process; the result has `exit_code`, `stdout` and `stderr`."""

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    return run


@pytest.fixture(scope="session")
def warm_python() -> Iterator[list[str]]:
    """The beginning of a command, as `python` is one, whose programs need not import PyTorch first: warm_python.py."""
    script = Path(__file__).with_name("warm_python.py")
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = {**os.environ, **one_thread, "PYTHONPATH": str(script.parents[1])}
    with (
        tempfile.TemporaryDirectory() as folder,  # a socket's path must be short
        subprocess.Popen(
            [sys.executable, script, f"{folder}/socket"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True,
        ) as server,
    ):  # fmt: skip
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        yield [sys.executable, "-IS", str(script), f"{folder}/socket"]


@pytest.fixture
def typed(
    cli: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], list[tuple[str, str]]]:
    """Run a block of a document in this process, in `tmp_path`: each line `bnfold ...`, which must end well.

    Returns:
        The name of each command, and what it printed on standard output.
    """
    monkeypatch.chdir(tmp_path)

    def run(block: str) -> list[tuple[str, str]]:
        printed = []
        for line in filter(None, block.splitlines()):
            program, *arguments = shlex.split(line, comments=True)
            assert program == "bnfold", line
            result = cli(*arguments)
            assert result.exit_code == 0, f"{line}\n{result.output}"
            printed.append((arguments[0], result.stdout))
        return printed

    return run


@pytest.fixture
def evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Run a block of Python of a document in this process, in `tmp_path`; the lines that it printed come back."""
    monkeypatch.chdir(tmp_path)

    def run(block: str) -> list[str]:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(block, "<document>", "exec"), {"__name__": "__main__"})  # noqa: S102 - our own document
        return out.getvalue().splitlines()

    return run


@pytest.fixture
def with_program(tmp_path: Path, warm_python: list[str]) -> dict[str, str]:
    """The environment of this interpreter with `bnfold` on the path, for the commands of our documents."""
    program = tmp_path / "bin" / "bnfold"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.join(warm_python)} -m bnfold "$@"\n')
    program.chmod(0o755)
    path = os.pathsep.join([str(program.parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}


CONV_BN_RELU = """
<ir_version: 9, opset_import: ["" : 17]>
net (float[N, 2, 6, 6] x) => (float[N, 4, 6, 6] y) {
  c = Conv <pads = [1, 1, 1, 1]> (x, weight)
  b = BatchNormalization <epsilon = 1e-05> (c, gamma, beta, mean, var)
  y = Relu (b)
}
"""


def conv_bn_relu() -> onnx.ModelProto:
    """A network with one BatchNorm behind a padded convolution, and statistics that are not the trivial ones."""
    random = np.random.default_rng(7)
    model = onnx.parser.parse_model(CONV_BN_RELU)
    parameters = {
        "weight": random.normal(size=(4, 2, 3, 3)),
        "gamma": random.uniform(0.5, 2, size=4),
        "beta": random.normal(size=4),
        "mean": random.normal(size=4),
        "var": random.uniform(0.5, 2, size=4),
    }
    for name, value in parameters.items():
        model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    return model


@pytest.fixture
def make_network() -> Callable[[], onnx.ModelProto]:
    """Make the network again, to be spoilt."""
    return conv_bn_relu


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """The network as a file."""
    path = tmp_path / "network.onnx"
    onnx.save(conv_bn_relu(), path)
    return path
