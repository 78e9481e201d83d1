"""A measurement in a process of its own, which may take so much memory and CPU time: what it does ends with it.

CPU time, so that a process that is stopped for a while, or shares its cores, is not ended for that.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

__all__ = ["Limits", "isolated"]

GIB = 2**30
PATIENCE = 20
"""Seconds of the clock that a second of CPU time may take; what takes longer hangs."""


@dataclass(frozen=True)
class Limits:
    """Of one measurement: address space, and seconds of CPU time."""

    memory_gib: float = 16.0
    cpu_s: int = 900


def isolated(measure: Callable[[str], dict[str, Any]], name: str, limits: Limits) -> dict[str, Any]:
    """The row that `measure` gives for a name; where it gives none, one with the reason as its `failure`.

    Args:
        measure: a function of a module, or a partial of one, since it is called in another process.
        name: of the network.
        limits: enforced where the system can (Unix).
    """
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = _process(measure, (sender, measure, name, limits))
    process.start()
    sender.close()
    row: dict[str, Any] | None = None
    try:
        if receiver.poll(limits.cpu_s * PATIENCE):
            row = receiver.recv()
    except EOFError:
        pass
    finally:
        receiver.close()
    if row is None and process.is_alive():
        process.join(5)  # one that closed its end of the pipe is on its way out
    hangs = process.is_alive()
    if hangs:
        process.kill()
    process.join()
    return row or {"network": name, "failure": "it hangs" if hangs else _end(process.exitcode, limits)}


def _process(measure: Callable[[str], dict[str, Any]], arguments: tuple[Any, ...]) -> BaseProcess:
    """Forked from a server that has imported the function's module, where the system can; else one of its own."""
    if sys.platform == "win32":
        return multiprocessing.get_context("spawn").Process(target=_work, args=arguments)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([getattr(measure, "func", measure).__module__])
    return context.Process(target=_work, args=arguments)


def _work(sender: Connection, measure: Callable[[str], dict[str, Any]], name: str, limits: Limits) -> None:
    _limit(limits)
    try:
        row = measure(name)
    except MemoryError:
        row = {"network": name, "failure": _no_memory(limits)}
    except Exception as error:  # noqa: BLE001 - networks and tools of others may raise anything; it is told
        traceback.print_exc(file=sys.stderr)
        row = {"network": name, "failure": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
    sender.send(row)
    sender.close()


def _limit(limits: Limits) -> None:
    if sys.platform == "win32":
        return
    import resource

    n_bytes = int(limits.memory_gib * GIB)
    resource.setrlimit(resource.RLIMIT_AS, (n_bytes, n_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_s, limits.cpu_s + 5))


def _no_memory(limits: Limits) -> str:
    return f"more than {limits.memory_gib:g} GiB of memory"


def _end(code: int | None, limits: Limits) -> str:
    """How a process ended that gave no row."""
    if code is not None and -code == getattr(signal, "SIGXCPU", None):
        return f"more than {limits.cpu_s} s of CPU time"
    if code is not None and code < 0:
        return f"the process ended with {signal.Signals(-code).name}"
    return f"the process ended with exit code {code}"
