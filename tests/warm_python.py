"""A Python that starts warm: its programs are forked from a process that has imported what they would import.

Commands of documents and runs in several processes each import PyTorch, its exporter and ONNX Runtime, which takes them
longer than their work. `warm_python.py SOCKET` imports these once and listens. `warm_python.py SOCKET ARGUMENT ...` is
a Python with these arguments (`-m MODULE ...`, `-c CODE ...` or `FILE ...`): it sends them there, with its folder, its
environment and its three files. A process forked from the first becomes the program, alone in a `__main__` of its own;
signals are passed on to it, and the second ends with its exit code or by its signal. What an import costs or lacks is
not seen in such a program: tests of the wheel and of the command line start cold ones.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
MODULES = (
    "accelerate", "onnx.reference", "onnx_ir.passes.common", "onnxscript.function_libs.torch_lib.ops",
    "rich.progress", "rich.table", "scipy.optimize", "scipy.sparse.csgraph", "scipy.stats",
    "sklearn.datasets", "torch._dynamo", "torch._export.non_strict_utils", "torch.distributed.launcher.api",
    "torch.export._trace", "torch.onnx._internal.exporter._core", "torch.utils.data",
)  # fmt: skip


@dataclass(frozen=True)
class Program:
    """What to run: the arguments of a Python, its folder and its environment."""

    arguments: list[str]
    folder: str
    environment: dict[str, str]

    def run(self) -> None:
        """Become the program; this process ends with it."""
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environment)
        kind, name, *rest = self.arguments if self.arguments[0] in ("-c", "-m") else ("", *self.arguments)
        paths = [path for path in self.environment.get("PYTHONPATH", "").split(os.pathsep) if path]
        sys.path[0:1] = [str(Path(name).parent.resolve()) if not kind else self.folder if kind == "-m" else "", *paths]
        sys.argv = [name if kind != "-c" else "-c", *rest]
        main = sys.modules["__main__"] = ModuleType("__main__")
        if kind == "-m":
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        elif kind == "-c":
            exec(compile(name, "<string>", "exec"), main.__dict__)  # noqa: S102 - what -c is for
        else:
            main.__file__ = name
            exec(compile(Path(name).read_bytes(), name, "exec"), main.__dict__)  # noqa: S102


def serve(path: str) -> Program | None:
    """Fork a process for each connection, and return in it what it is to run; return None when standard input ends."""
    if Path("/proc/self/task").is_dir() and len(threads := os.listdir("/proc/self/task")) > 1:  # noqa: PTH208
        raise RuntimeError(f"what is imported must start no thread, which a forked process lacks, got {len(threads)}")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        gc.freeze()  # so that a forked process does not copy what it never changes
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        handlers: list[int] = []
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            handler = os.fork()
            if handler == 0:
                listener.close()
                return handle(connection)
            connection.close()
            handlers = [pid for pid in (*handlers, handler) if os.waitpid(pid, os.WNOHANG) == (0, 0)]
    for pid in handlers:
        os.waitpid(pid, 0)
    return None


def handle(connection: socket.socket) -> Program:
    """Fork once more: the program returns, and this process passes signals on to it and hands back how it ended."""
    first, files, _, _ = socket.recv_fds(connection, 8, 3)
    with connection.makefile("rb") as stream:
        request = json.loads(stream.read(int.from_bytes(first, "big")))
    program = os.fork()
    if program == 0:
        connection.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        return Program(**request)
    for file in files:
        os.close(file)
    threading.Thread(target=pass_on, args=(connection, program), daemon=True).start()
    _, status = os.waitpid(program, 0)
    with contextlib.suppress(OSError):  # whoever asked may be gone
        connection.sendall(status.to_bytes(4, "big"))
    os._exit(0)


def pass_on(connection: socket.socket, program: int) -> None:
    """Send the program the signals that arrive; where the other end is gone, end it."""
    with contextlib.suppress(ProcessLookupError):
        while number := connection.recv(1):
            os.kill(program, number[0])
        os.kill(program, signal.SIGKILL)


def ask(path: str, arguments: list[str]) -> None:
    """Have a program run, and end as it did."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        request = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}  # noqa: PTH109
        text = json.dumps(request).encode()
        socket.send_fds(connection, [len(text).to_bytes(8, "big")], [0, 1, 2])
        connection.sendall(text)
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda number, _frame: connection.send(bytes([number])) and None)
        answer = connection.recv(4)
    if len(answer) < 4:
        raise ConnectionError(f"{path}: the process that runs the program is gone")
    status = int.from_bytes(answer, "big")
    if os.WIFSIGNALED(status):
        if os.WTERMSIG(status) in SIGNALS:
            signal.signal(os.WTERMSIG(status), signal.SIG_DFL)
        os.kill(os.getpid(), os.WTERMSIG(status))
    os._exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        ask(sys.argv[1], sys.argv[2:])
    for module in MODULES:
        importlib.import_module(module)
    sys.modules["warm_python"] = sys.modules["__main__"]
    if program := serve(sys.argv[1]):
        program.run()
