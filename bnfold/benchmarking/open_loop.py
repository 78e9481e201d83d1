"""Open loop: requests arrive at random moments; the highest rate at which p95 stays within a limit.

A search halves the range of rates; every rate of a search is tried with the same random gaps between arrivals, only
scaled, so that more is always harder. Another search opens the files afresh and draws other gaps: two searches that
agree confirm each other.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bnfold.benchmarking.file_times import Timings
from bnfold.benchmarking.schedule import N_LOADS, WARM_UP_SHARE, in_turn, open_all
from bnfold.benchmarking.timing import garbage_collection_paused, n_runs_for
from bnfold.benchmarking.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnfold.benchmarking.load import Load
    from bnfold.benchmarking.timing import Runner

__all__ = ["N_SEARCHES", "Found", "highest_rate", "n_requests", "time_open_loop"]

log = logging.getLogger("bnfold.benchmarking")

N_SEARCHES = 2  # the second confirms the first
N_STEPS = 6  # the rate is known to 1.1 / 2**6, 2 % of what the workers can do
LOWEST, HIGHEST = 0.1, 1.2  # of what the workers can do: where the search begins
QUEUE_SHARE = 50  # a trial lasts so many times the limit: a queue that grows has the time to break it
MIN_REQUESTS = 200  # ten beyond p95


@dataclass(frozen=True)
class Found:
    """The highest rate in requests per second, 0 where none keeps the limit, and the times at it in milliseconds."""

    rate_per_s: float
    times_ms: list[float]


def n_requests(capacity_per_s: float, limit_ms: float) -> int:
    """How many requests make a trial."""
    return max(MIN_REQUESTS, round(capacity_per_s * QUEUE_SHARE * limit_ms / 1e3))


def highest_rate(workers: Workers, limit_ms: float, capacity_per_s: float, n: int, seed: int) -> Found:
    """Search the highest rate of Poisson arrivals at which no more than 5 % of `n` requests take longer than the limit.

    Args:
        workers: serve the requests.
        limit_ms: from the planned arrival to the answer, in milliseconds.
        capacity_per_s: requests per second that the workers serve when they never rest.
        n: requests of a trial.
        seed: of the arrivals.
    """
    arrivals = np.cumsum(np.random.default_rng(seed).exponential(1.0, n))
    low, high = LOWEST * capacity_per_s, HIGHEST * capacity_per_s
    best: Found | None = None
    for _ in range(N_STEPS):
        rate = (low + high) / 2
        due = arrivals / rate
        times = _kept(workers, due, limit_ms) or _kept(workers, due, limit_ms)  # a hiccup of the machine is no limit
        log.debug(
            "%.4g requests/s: %s", rate, "too many" if times is None else f"p95 {np.quantile(times, 0.95):.4g} ms"
        )
        if times is None:
            high = rate
        else:
            low, best = rate, Found(rate, times)
    return best or Found(0.0, [workers.timed_ms() for _ in range(n)])


def _kept(workers: Workers, arrivals_s: np.ndarray, limit_ms: float) -> list[float] | None:
    """The times of all requests, None as soon as more than 5 % are beyond the limit."""
    allowed = int(0.05 * arrivals_s.size)
    n_late = 0

    def give_up(ms: float) -> bool:
        nonlocal n_late
        n_late += ms > limit_ms
        return n_late > allowed

    with garbage_collection_paused():
        times = workers.serve(arrivals_s, give_up)
    return times if n_late <= allowed else None


def time_open_loop(
    openers: Sequence[Callable[[], Runner]],
    budget_s: float,
    progress: Callable[[float], None],
    timings: Timings,
    *,
    load: Load,
    seed: int,
) -> None:
    """Search the rate of every file several times, in turns; a file's round is a search.

    Args:
        openers: one for each file; opens it for `load.concurrency` workers.
        budget_s: seconds for all of it, about; `N_SEARCHES` searches are made in any case.
        progress: told the share that is done, 0 to 1.
        timings: filled: the time of a request in a round is 1000 / rate, infinite where no rate keeps the limit.
        load: the limit and the workers.
        seed: of the arrivals.
    """
    start = time.monotonic()
    sizes: dict[int, int] = {}
    n_searches, search = N_SEARCHES, 0
    while search < n_searches:
        files, _ = open_all(openers, search, budget_s * WARM_UP_SHARE / N_SEARCHES / len(openers))
        timings.begin_load()
        found: dict[int, Found] = {}
        for turn, index in enumerate(in_turn(range(len(files)), search)):
            found[index] = _search(files[index], load.slo_p95_ms, partial(sizes.setdefault, index), seed + search)
            progress((search + (turn + 1) / len(files)) / n_searches)
        timings.add_round([_as_block(found[index]) for index in range(len(files))])
        search += 1
        if search == 1:
            n_searches = max(N_SEARCHES, min(N_LOADS, int(budget_s / (time.monotonic() - start))))
        files.clear()
    progress(1.0)


def _search(workers: Runner, limit_ms: float, size: Callable[[int], int], seed: int) -> Found:
    """One search of a file, with as many requests a trial as its first had, which `size` keeps."""
    if not isinstance(workers, Workers):
        raise TypeError("the open loop wants workers")
    alone = [workers.timed_ms() for _ in range(MIN_REQUESTS // 20 + 1)]
    if min(alone) > limit_ms:  # more than 5 % of a trial, and not one that waited for another
        return Found(0.0, alone)
    capacity = _capacity_per_s(workers)
    return highest_rate(workers, limit_ms, capacity, size(n_requests(capacity, limit_ms)), seed)


def _capacity_per_s(workers: Workers) -> float:
    first_ms = workers.round_ms(workers.least_runs)[0]
    return 1e3 / workers.round_ms(10 * n_runs_for(first_ms, workers.least_runs))[0]


def _as_block(found: Found) -> tuple[float, list[float]]:
    return (1e3 / found.rate_per_s if found.rate_per_s > 0 else float("inf")), found.times_ms
