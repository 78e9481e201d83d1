"""tests/warm_python.py: a program that is forked there ends as it does in a Python of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

SHOW = "import os, sys; print(sys.argv, __name__, os.getcwd(), os.environ['SIGN'], sys.stdin.read())"


@pytest.mark.parametrize(
    "program",
    [
        ["-c", SHOW, "a", "b c"],
        ["-c", f"{SHOW}; sys.exit(3)"],
        ["-c", f"{SHOW}; sys.exit('why')"],
        ["-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"],
        ["-c", "import os, signal; signal.signal(15, signal.SIG_DFL); os.kill(os.getpid(), 15)"],
        ["-c", "import atexit; atexit.register(print, 'last'); print('first')"],
        ["-c", "import multiprocessing as m; print(m.get_context('spawn').Pool(1).map(abs, [-3]))"],
        ["-m", "shown", "a"],
        ["shown.py", "a"],
        ["-m", "bnfold", "--version"],
    ],
    ids=lambda program: " ".join(program)[-24:],
)
def test_a_program_ends_as_a_cold_one(warm_python: list[str], tmp_path: Path, program: list[str]) -> None:
    (tmp_path / "shown.py").write_text(f"import beside; {SHOW}; print(__spec__ and __spec__.name)")
    (tmp_path / "beside.py").write_text("print('beside')")
    ends = []
    for python in ([sys.executable], warm_python):
        command, env = [*python, *program], {"SIGN": "yes", "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(command, cwd=tmp_path, env=env, input="text", capture_output=True, text=True, check=False)
        ends.append((done.returncode, done.stdout, done.stderr))
    assert ends[0] == ends[1]


def test_an_exception_is_shown(warm_python: list[str]) -> None:
    done = subprocess.run([*warm_python, "-c", "1 / 0"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_are_passed_on(warm_python: list[str], number: signal.Signals) -> None:
    code = f"import signal, sys; signal.signal({int(number)}, lambda *_: sys.exit(5)); print('on', flush=True)"
    code += "; signal.pause()"
    with subprocess.Popen([*warm_python, "-c", code], stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"on\n"
        program.send_signal(number)
        assert program.wait(60) == 5


def test_a_program_ends_with_whoever_asked_for_it(warm_python: list[str]) -> None:
    code = "import time; print('on', flush=True); time.sleep(600)"
    with subprocess.Popen([*warm_python, "-c", code], stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"on\n"
        program.kill()
        assert program.stdout.read() == b""  # the program held the other end, and is gone
