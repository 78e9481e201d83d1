"""Who runs when: files take turns, in an order that turns round, and are opened afresh several times.

    load 1: open A, B;  rounds  A B | B A | A B | ...
    load 2: open B, A;  rounds  B A | A B | ...

A slow drift of the machine then falls on both alike, and so does a lucky place in memory.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from bnfold.benchmarking.timing import BoundFile, garbage_collection_paused, n_runs_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

__all__ = ["FileTimes", "Plan", "in_turn", "time_files"]

N_LOADS = 10
MIN_LOADS = 6  # with n loads, all on one side of 1 by chance: 2 / 2**n, below 5 % from 6 on (sign test)
MIN_ROUNDS = 2  # one in each order
WARM_UP_SHARE = 0.1  # of the budget

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
    def within(cls, budget_s: float, run_ms: Sequence[float], load_s: float) -> Plan:
        """The plan that fills the budget, with at least `MIN_LOADS` loads of `MIN_ROUNDS` rounds even where it is over.

        Args:
            budget_s: seconds for all loads together.
            run_ms: the time of one run of each file.
            load_s: seconds to open all files; slow files are opened less often.
        """
        n_runs = tuple(n_runs_for(time_ms) for time_ms in run_ms)
        round_s = sum((count + 1) * time_ms for count, time_ms in zip(n_runs, run_ms, strict=True)) / 1e3
        n_loads = max(MIN_LOADS, min(N_LOADS, int(budget_s / (2 * load_s))))
        left_s = budget_s * (1 - WARM_UP_SHARE) / n_loads - load_s
        return cls(n_loads, max(MIN_ROUNDS, math.floor(left_s / round_s)), n_runs)


@dataclass(frozen=True)
class FileTimes:
    """The times of one file in milliseconds.

    `rounds`: the median of each round's runs, shape (loads, rounds). `runs`: every counted run, in order.
    """

    rounds: NDArray[np.float64]
    runs: NDArray[np.float64]


def time_files(
    openers: Sequence[Callable[[], BoundFile]], budget_s: float, progress: Callable[[float], None]
) -> list[FileTimes]:
    """Open and time files side by side.

    Args:
        openers: one for each file; opens a session with inputs bound.
        budget_s: seconds for all of it, about.
        progress: told the share that is done, 0 to 1.

    Returns:
        The times of each file, in the order of `openers`.
    """
    warm_up_s = budget_s * WARM_UP_SHARE / N_LOADS / len(openers)
    files, load_s = _open(openers, 0, warm_up_s)
    plan = Plan.within(budget_s, [float(np.median(file.block_ms(3))) for file in files], load_s)
    rounds = np.empty((len(openers), plan.n_loads, plan.n_rounds))
    runs: list[list[float]] = [[] for _ in openers]
    for load in range(plan.n_loads):
        if load > 0:
            files.clear()  # before the next ones are opened: only one set in memory
            files, _ = _open(openers, load, warm_up_s)
        for turn in range(plan.n_rounds):
            with garbage_collection_paused():
                for index in in_turn(range(len(files)), load + turn):
                    times = files[index].block_ms(plan.n_runs[index])
                    rounds[index, load, turn] = np.median(times)
                    runs[index].extend(times)
            progress((load * plan.n_rounds + turn + 1) / (plan.n_loads * plan.n_rounds))
    return [FileTimes(rounds[index], np.asarray(runs[index])) for index in range(len(openers))]


def _open(openers: Sequence[Callable[[], BoundFile]], turn: int, warm_up_s: float) -> tuple[list[BoundFile], float]:
    """Open all files, in turn, and warm each up. Also the seconds that opening took."""
    start = time.monotonic()
    opened = {index: openers[index]() for index in in_turn(range(len(openers)), turn)}
    load_s = time.monotonic() - start
    files = [opened[index] for index in range(len(openers))]
    for file in files:
        file.warm_up(warm_up_s)
    return files, load_s
