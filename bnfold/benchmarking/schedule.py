"""Who runs when: files take turns, in an order that turns round, and are opened afresh several times.

    load 1: open A, B;  rounds  A B | B A | A B | ...
    load 2: open B, A;  rounds  B A | A B | ...

A slow drift of the machine then falls on both alike, and so does a lucky place in memory.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from bnfold.benchmarking.file_times import FileTimes, Timings
from bnfold.benchmarking.timing import Runner, garbage_collection_paused, n_runs_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["N_LOADS", "WARM_UP_SHARE", "Plan", "in_turn", "open_all", "time_files"]

log = logging.getLogger("bnfold.benchmarking")

N_LOADS = 20
MIN_LOADS = 6  # Student's 99 % interval is 1.6 standard deviations of a load to each side, with 4 it were 2.9
MIN_ROUNDS = 2  # one in each order
WARM_UP_SHARE = 0.1  # of the budget, and of the time that opening takes: a GPU slows its clocks meanwhile

T = TypeVar("T")


def in_turn(items: Sequence[T], turn: int) -> list[T]:
    """The items in order on even turns, reversed on odd ones."""
    return list(items) if turn % 2 == 0 else list(reversed(items))


@dataclass(frozen=True)
class Plan:
    """How often: loads, rounds in each load, and runs of each file in a round."""

    n_loads: int
    n_rounds: int
    n_runs: tuple[int, ...]

    @classmethod
    def within(
        cls,
        budget_s: float,
        run_ms: Sequence[float],
        load_s: float,
        least_runs: int = 1,
        *,
        least_loads: int = MIN_LOADS,
    ) -> Plan:
        """The plan that fills the budget; at least `least_loads` loads of `MIN_ROUNDS` rounds even where that is over.

        Args:
            budget_s: seconds for all loads together.
            run_ms: the time of one run of each file.
            load_s: seconds to open all files; slow files are opened less often.
            least_runs: of a block.
            least_loads: `MIN_LOADS` is what an interval takes.
        """
        n_runs = tuple(n_runs_for(time_ms, least_runs) for time_ms in run_ms)
        round_s = _round_s(n_runs, run_ms)
        least_s = max(2 * load_s, load_s + MIN_ROUNDS * round_s)
        n_loads = max(least_loads, min(N_LOADS, int(budget_s * (1 - WARM_UP_SHARE) / least_s)))
        left_s = budget_s * (1 - WARM_UP_SHARE) / n_loads - load_s
        return cls(n_loads, max(MIN_ROUNDS, math.floor(left_s / round_s)), n_runs)

    def duration_s(self, run_ms: Sequence[float], load_s: float) -> float:
        """Seconds that the plan takes; the arguments are those of `within`."""
        return self.n_loads * (load_s + self.n_rounds * _round_s(self.n_runs, run_ms))


def _round_s(n_runs: Sequence[int], run_ms: Sequence[float]) -> float:
    """Seconds of a round: a run of each file to settle, and those that count."""
    return sum((count + 1) * time_ms for count, time_ms in zip(n_runs, run_ms, strict=True)) / 1e3


def time_files(
    openers: Sequence[Callable[[], Runner]],
    budget_s: float,
    progress: Callable[[float], None],
    timings: Timings | None = None,
) -> list[FileTimes]:
    """Open and time files side by side.

    Args:
        openers: one for each file; opens a session with inputs bound.
        budget_s: seconds for all of it, about.
        progress: told the share that is done, 0 to 1.
        timings: filled as the times come in, for a caller who wants them though this is interrupted.

    Returns:
        The times of each file, in the order of `openers`.
    """
    timings = Timings(len(openers)) if timings is None else timings
    warm_up_s = budget_s * WARM_UP_SHARE / N_LOADS / len(openers)
    files, load_s = open_all(openers, 0, warm_up_s)
    least = max(file.least_runs for file in files)
    run_ms = [float(np.median(file.block_ms(max(3, least)))) for file in files]
    plan = Plan.within(budget_s, run_ms, load_s, least)
    needed_s = plan.duration_s(run_ms, load_s)
    if needed_s > budget_s:
        log.info(
            "about %.2g s more than the budget: %d session restarts are the least", needed_s - budget_s, plan.n_loads
        )
    for load in range(plan.n_loads):
        if load > 0:
            files.clear()  # before the next ones are opened: only one set in memory
            files, _ = open_all(openers, load, warm_up_s)
        timings.begin_load()
        log.debug("session %d of %d, %d rounds", load + 1, plan.n_loads, plan.n_rounds)
        for turn in range(plan.n_rounds):
            blocks: dict[int, tuple[float, list[float]]] = {}
            with garbage_collection_paused():
                for index in in_turn(range(len(files)), load + turn):
                    blocks[index] = files[index].round_ms(plan.n_runs[index])
            timings.add_round([blocks[index] for index in range(len(files))])
            progress((load * plan.n_rounds + turn + 1) / (plan.n_loads * plan.n_rounds))
        for index in in_turn(range(len(files)), load):
            timings.add_end_to_end(index, files[index].end_to_end_ms(plan.n_runs[index]))
    times = timings.times()
    if times is None:
        raise RuntimeError("a plan without rounds")
    return times


def open_all(openers: Sequence[Callable[[], Runner]], turn: int, warm_up_s: float) -> tuple[list[Runner], float]:
    """Open all files, in turn, and warm each up, for `warm_up_s` or so. Also the seconds that opening took."""
    start = time.monotonic()
    opened = {index: openers[index]() for index in in_turn(range(len(openers)), turn)}
    load_s = time.monotonic() - start
    files = [opened[index] for index in range(len(openers))]
    for file in files:
        file.warm_up(max(warm_up_s, WARM_UP_SHARE * load_s))
    return files, load_s
