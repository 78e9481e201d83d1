"""Sessions timed in turns of which only one is open at a time.

    load 1: open A, time it, close it; the same with B, C;  load 2: C, B, A;  load 3: A, B, C ...

Threads of a session that is open and idle go on spinning for milliseconds, and take the CPUs of the session that is
timed next: with two CPUs a session of two threads took twice its time beside four others, one whose threads sleep did
not. Two files in equal sessions disturb each other alike, and are timed in the same round (`schedule`); sessions that
differ in their threads do not.
"""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

import numpy as np

from bnfold.benchmarking.file_times import Timings
from bnfold.benchmarking.schedule import MIN_LOADS, N_LOADS, WARM_UP_SHARE, Plan, in_turn
from bnfold.benchmarking.timing import garbage_collection_paused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnfold.benchmarking.file_times import FileTimes
    from bnfold.benchmarking.timing import Runner

__all__ = ["time_alone"]


def time_alone(
    openers: Sequence[Callable[[], Runner]],
    budget_s: float,
    progress: Callable[[float], None],
    *,
    least_loads: int = MIN_LOADS,
) -> list[FileTimes]:
    """Open, time and close sessions in turns.

    Args:
        openers: one for each session; opens it with inputs bound.
        budget_s: seconds for all of it, about.
        progress: told the share that is done, 0 to 1.
        least_loads: how often each is opened, at the least; fewer than `MIN_LOADS` rank, and give no interval.

    Returns:
        The times of each session, in the order of `openers`.
    """
    deadline, n = time.monotonic() + budget_s, len(openers)
    warm_up_s = budget_s * WARM_UP_SHARE / N_LOADS / n
    loads_s, run_ms, least = 0.0, [], 1
    for opener in openers:
        runner, load_s = _opened(opener, warm_up_s)
        loads_s, least = loads_s + load_s, max(least, runner.least_runs)
        run_ms.append(float(np.median(runner.block_ms(max(3, runner.least_runs)))))
        _closed(runner)
        del runner
    left_s = max(0.0, deadline - time.monotonic())
    plan = Plan.within(left_s, run_ms, loads_s, least, least_loads=least_loads)
    timings = Timings(n)
    for load in range(plan.n_loads):
        rounds: dict[int, list[tuple[float, list[float]]]] = {}
        for index in in_turn(range(n), load):
            runner, _ = _opened(openers[index], warm_up_s)
            with garbage_collection_paused():
                rounds[index] = [runner.round_ms(plan.n_runs[index]) for _ in range(plan.n_rounds)]
            _closed(runner)
            del runner
            progress((load * n + len(rounds)) / (plan.n_loads * n))
        timings.begin_load()
        for turn in range(plan.n_rounds):
            timings.add_round([rounds[index][turn] for index in range(n)])
    times = timings.times()
    if times is None:
        raise RuntimeError("a plan without rounds")
    return times


def _opened(opener: Callable[[], Runner], warm_up_s: float) -> tuple[Runner, float]:
    """A session, warmed up, and the seconds that opening it took."""
    start = time.monotonic()
    runner = opener()
    load_s = time.monotonic() - start
    runner.warm_up(max(warm_up_s, WARM_UP_SHARE * load_s))
    return runner, load_s


def _closed(runner: Runner) -> None:
    """End a session with its threads, whatever refers to it in a circle."""
    vars(runner).clear()
    gc.collect()
