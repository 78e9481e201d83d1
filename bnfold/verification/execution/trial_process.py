"""Runs of a graph in a process of their own, which may die of them.

At sizes that a graph was not made for, an operator of ONNX Runtime can divide by a length of 0: a signal ends the
process, and no error can be caught. Where sizes are tried, another process takes that risk.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from bnfold.verification.execution.plain_session import open_written, try_run, write_plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import onnx

__all__ = ["TrialProcess"]


class TrialProcess:
    """Runs a graph on one input after the other; where the process dies, the next run has a new one.

    Args:
        model: unchanged; graph optimizations are off.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="bnfold-")
        self._path = write_plain(model, Path(self._folder.name))
        self._process: subprocess.Popen[bytes] | None = None

    def try_run(self, feed: Mapping[str, np.ndarray]) -> list[Any] | str:
        """The outputs of the graph, or what ONNX Runtime says where it does not run, or that it died."""
        if self._process is None:
            self._process = _started(self._path)
        requests, answers = cast("BinaryIO", self._process.stdin), cast("BinaryIO", self._process.stdout)
        try:
            pickle.dump(dict(feed), requests)
            requests.flush()
            answer: list[Any] | str = pickle.load(answers)  # noqa: S301  # what our own process wrote
        except (EOFError, OSError, pickle.UnpicklingError):
            answer = f"ONNX Runtime ended its process ({_ending(self._process)})"
            self._stop()
        return answer

    def close(self) -> None:
        """End the process, and remove what it read."""
        self._stop()
        self._folder.cleanup()

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):  # what was not read any more
                        stream.close()
            self._process = None


def _started(path: Path) -> subprocess.Popen[bytes]:
    home = str(Path(__file__).resolve().parents[3])
    paths = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
    # -P: no numpy.py of the working folder is imported in place of the package.
    return subprocess.Popen(  # noqa: S603  # this interpreter, this module
        [sys.executable, "-P", "-m", "bnfold.verification.execution.trial_process", str(path)],
        env={**os.environ, "PYTHONPATH": paths},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _ending(process: subprocess.Popen[bytes]) -> str:
    """How it ended: `SIGFPE`, or its exit code."""
    code = process.wait()
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _serve(path: Path) -> None:
    """What the other process does, until nobody asks any more."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever else is printed is no answer
    session = open_written(path, threads=1)
    while True:
        try:
            feed = pickle.load(sys.stdin.buffer)  # noqa: S301  # what the process that started this one wrote
        except EOFError:
            return
        pickle.dump(try_run(session, feed), answers)
        answers.flush()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
