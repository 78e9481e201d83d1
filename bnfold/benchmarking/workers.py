"""Several requests at a time: Python threads, which ONNX Runtime lets go of while it runs."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from bnfold.benchmarking.timing import Runner

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

__all__ = ["Workers"]

LEAST_EACH = 4  # requests of each worker in a block: that not all end at once weighs little


class Workers(Runner):
    """Workers that serve one file at the same time, each with inputs and outputs of its own.

    Args:
        runner: the opened file.
        concurrency: how many workers.
    """

    least_runs = LEAST_EACH

    def __init__(self, runner: Runner, concurrency: int) -> None:
        first = runner.another()
        super().__init__(first)
        self.load_ms, self.first_ms, self.end_to_end = runner.load_ms, runner.first_ms, runner.end_to_end
        self._runner = runner  # keeps the session alive
        self._calls = [first, *(runner.another() for _ in range(concurrency - 1))]
        self._pool = ThreadPoolExecutor(concurrency)
        self._stopped = threading.Event()

    def block_ms(self, n_runs: int) -> list[float]:
        """`n_runs` requests for each worker, each timed in milliseconds."""
        return self.round_ms(n_runs)[1]

    def round_ms(self, n_runs: int) -> tuple[float, list[float]]:
        """What a request took, all workers together (elapsed time over requests), and the time of each."""
        total = n_runs * len(self._calls)
        served = self._at_once(lambda call, ticket, _start: _timed(call) if ticket < total else None)
        end = max(moment for moment, _ in served)
        return end * 1e3 / total, [ms for _, ms in served]

    def serve(self, arrivals_s: NDArray[np.float64], give_up: Callable[[float], bool]) -> list[float]:
        """Serve requests that arrive at given moments, in their order, each as soon as a worker is free.

        A time counts from the arrival that was planned, not from when a worker came to it: a queue is part of it
        (Tene, "How not to measure latency", calls leaving it out coordinated omission).

        Args:
            arrivals_s: seconds from the start, ascending.
            give_up: told each time; true ends the work early.

        Returns:
            Milliseconds, shape of `arrivals_s` unless given up.
        """

        def one(call: Callable[[], object], ticket: int, start: float) -> float | None:
            if ticket >= arrivals_s.size:
                return None
            due = start + float(arrivals_s[ticket])
            time.sleep(max(0.0, due - time.perf_counter()))
            call()
            late_ms = (time.perf_counter() - due) * 1e3
            if give_up(late_ms):
                self._stopped.set()
            return late_ms

        return [ms for _, ms in self._at_once(one)]

    def _at_once(
        self, one: Callable[[Callable[[], object], int, float], float | None]
    ) -> Sequence[tuple[float, float]]:
        """Let every worker take tickets 0, 1, 2, ... until `one` gives None, or the work is stopped.

        Returns:
            The moment in seconds from the start at which each request was done, and what `one` gave for it.
        """
        for job in [self._pool.submit(call) for call in self._calls]:
            job.result()  # not counted: threads and caches come back
        self._stopped.clear()
        tickets = itertools.count()  # `next` on it is atomic
        start: list[float] = []
        ready = threading.Barrier(len(self._calls), action=lambda: start.append(time.perf_counter()))

        def work(call: Callable[[], object]) -> list[tuple[float, float]]:
            ready.wait()
            done: list[tuple[float, float]] = []
            while not self._stopped.is_set() and (ms := one(call, next(tickets), start[0])) is not None:
                done.append((time.perf_counter() - start[0], ms))
            return done

        try:
            jobs = [self._pool.submit(work, call) for call in self._calls]
            return [pair for job in jobs for pair in job.result()]
        finally:  # an interrupt: nobody begins another request, nor waits for a worker that never comes
            self._stopped.set()
            ready.abort()


def _timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - begun) / 1e6
