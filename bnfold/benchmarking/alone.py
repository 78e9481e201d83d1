"""Sessions timed in turns of which only one is open at a time.

    load 1: open A, time it, close it; the same with B, C;  load 2: C, B, A;  load 3: A, B, C ...

Threads of a session that is open and idle go on spinning for milliseconds, and take the CPUs of the session that is
timed next: with two CPUs a session of two threads took twice its time beside four others, one whose threads sleep did
not. Two files in equal sessions disturb each other alike, and are timed in the same round (`schedule`); sessions that
differ in their threads do not.
"""

from __future__ import annotations

import gc
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bnfold.benchmarking.file_times import Timings
from bnfold.benchmarking.schedule import MIN_LOADS, N_LOADS, WARM_UP_SHARE, Plan, in_turn
from bnfold.benchmarking.timing import garbage_collection_paused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnfold.benchmarking.file_times import FileTimes
    from bnfold.benchmarking.timing import Runner

__all__ = ["FirstRuns", "first_runs", "time_alone"]


@dataclass(frozen=True)
class FirstRuns:
    """The first runs of a session: seconds to open it, and the time of a run; `is_hopeless`: it went no further."""

    load_s: float
    run_ms: float
    least_runs: int = 1
    is_hopeless: bool = False


def first_runs(opener: Callable[[], Runner], limit_ms: float = math.inf) -> FirstRuns:
    """Open a session and run it a few times.

    Args:
        opener: opens it with inputs bound.
        limit_ms: of a run; a session whose first two runs both take longer is closed behind them.
    """
    start = time.monotonic()
    runner = opener()
    load_s = time.monotonic() - start
    fastest_ms = min(runner.timed_ms(), runner.timed_ms()) if math.isfinite(limit_ms) else 0.0
    if fastest_ms > limit_ms:
        found = FirstRuns(load_s, fastest_ms, is_hopeless=True)
    else:
        run_ms = float(np.median(runner.block_ms(max(3, runner.least_runs))))
        found = FirstRuns(load_s, run_ms, runner.least_runs)
    _closed(runner)
    return found


def time_alone(
    openers: Sequence[Callable[[], Runner]],
    first: Sequence[FirstRuns],
    budget_s: float,
    progress: Callable[[float], None],
    *,
    least_loads: int = MIN_LOADS,
    between: Callable[[], None] = lambda: None,
) -> list[FileTimes]:
    """Open, time and close sessions in turns.

    Args:
        openers: one for each session; opens it with inputs bound.
        first: their first runs.
        budget_s: seconds for all of it, about.
        progress: told the share that is done, 0 to 1.
        least_loads: how often each is opened, at the least; fewer than `MIN_LOADS` rank, and give no interval.
        between: called in front of each turn, and behind the last.

    Returns:
        The times of each session, in the order of `openers`.
    """
    n = len(openers)
    warm_up_s = budget_s * WARM_UP_SHARE / N_LOADS / n
    plan = Plan.within(
        budget_s, [own.run_ms for own in first], sum(own.load_s for own in first),
        max(own.least_runs for own in first), least_loads=least_loads,
    )  # fmt: skip
    timings = Timings(n)
    for load in range(plan.n_loads):
        between()
        rounds: dict[int, list[tuple[float, list[float]]]] = {}
        for index in in_turn(range(n), load):
            runner = _opened(openers[index], warm_up_s)
            with garbage_collection_paused():
                rounds[index] = [runner.round_ms(plan.n_runs[index]) for _ in range(plan.n_rounds)]
            _closed(runner)
            del runner
            progress((load * n + len(rounds)) / (plan.n_loads * n))
        timings.begin_load()
        for turn in range(plan.n_rounds):
            timings.add_round([rounds[index][turn] for index in range(n)])
    between()
    times = timings.times()
    if times is None:
        raise RuntimeError("a plan without rounds")
    return times


def _opened(opener: Callable[[], Runner], warm_up_s: float) -> Runner:
    """A session, warmed up."""
    start = time.monotonic()
    runner = opener()
    runner.warm_up(max(warm_up_s, WARM_UP_SHARE * (time.monotonic() - start)))
    return runner


def _closed(runner: Runner) -> None:
    """End a session with its threads, whatever refers to it in a circle."""
    vars(runner).clear()
    gc.collect()
