"""Sessions timed in turns, one open at a time."""

from __future__ import annotations

import time
from functools import partial

from bnfold.benchmarking.alone import first_runs, time_alone
from bnfold.benchmarking.schedule import MIN_LOADS
from bnfold.benchmarking.timing import Runner


class Session(Runner):
    """Counts those that are open; a circle of references keeps it alive until garbage is collected."""

    def __init__(self, name: str, opened: list[str], order: list[str], seconds: float) -> None:
        self.token = Token(name, opened)
        order.append(name)
        super().__init__(partial(time.sleep, seconds))
        self.myself = self


class Token:
    def __init__(self, name: str, opened: list[str]) -> None:
        self.name, self.opened = name, opened
        opened.append(name)
        assert opened == [name], "another session is open"

    def __del__(self) -> None:
        self.opened.remove(self.name)


def test_one_is_open_at_a_time_and_their_order_turns_round() -> None:
    opened: list[str] = []
    order: list[str] = []
    shares: list[float] = []
    sessions = [partial(Session, name, opened, order, 0.001 * factor) for name, factor in (("a", 1), ("b", 3))]
    between: list[int] = []
    first = list(map(first_runs, sessions))
    a, b = time_alone(sessions, first, 0.0, shares.append, least_loads=2, between=lambda: between.append(len(order)))
    assert between == [2, 4, 6]
    assert opened == []
    assert order == ["a", "b", "a", "b", "b", "a"]  # once to plan, then two loads
    assert a.rounds.shape == b.rounds.shape == (2, a.rounds.shape[1])
    assert shares == [0.25, 0.5, 0.75, 1.0]
    assert b.rounds.min() >= 3.0
    assert a.rounds.min() >= 1.0


def test_a_larger_budget_times_more_and_six_loads_are_the_least() -> None:
    opened: list[str] = []
    order: list[str] = []
    sessions = [partial(Session, "a", opened, order, 0.0005)]
    first = list(map(first_runs, sessions))
    (few,) = time_alone(sessions, first, 0.0, lambda _share: None)
    assert len(few.rounds) == MIN_LOADS
    (many,) = time_alone(sessions, first, 1.0, lambda _share: None)
    assert many.rounds.size > few.rounds.size


def test_a_hopeless_session_runs_twice_and_is_closed() -> None:
    runs: list[float] = []

    def slow() -> None:
        runs.append(time.perf_counter())
        time.sleep(0.01)

    found = first_runs(lambda: Runner(slow), limit_ms=5.0)
    assert (found.is_hopeless, len(runs)) == (True, 2)
    assert found.run_ms >= 10.0
    assert not first_runs(lambda: Runner(slow), limit_ms=1000.0).is_hopeless


def test_one_slow_run_is_not_hopeless() -> None:
    times = iter([0.05, 0.0])
    assert not first_runs(lambda: Runner(lambda: time.sleep(next(times, 0.0))), limit_ms=20.0).is_hopeless
