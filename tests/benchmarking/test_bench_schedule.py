"""Who runs when: turns that turn round, files opened afresh, rounds that fill the budget."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnfold.benchmarking.file_times import Timings
from bnfold.benchmarking.schedule import MIN_LOADS, MIN_ROUNDS, N_LOADS, Plan, in_turn, time_files
from bnfold.benchmarking.timing import BLOCK_MS, Runner


class Recorded:
    """Stands for an opened file whose runs take `run_ms`, and writes down what happens to it."""

    least_runs = 1
    end_to_end: Any = None
    end_to_end_ms = Runner.end_to_end_ms

    def __init__(self, name: str, run_ms: float, events: list[tuple[str, str]]) -> None:
        self.name, self.run_ms, self.events = name, run_ms, events
        events.append(("open", name))

    def warm_up(self, _limit_s: float) -> None:
        self.events.append(("warm", self.name))

    def block_ms(self, n_runs: int) -> list[float]:
        self.events.append(("block", self.name))
        return [self.run_ms] * n_runs

    def round_ms(self, n_runs: int) -> tuple[float, list[float]]:
        return self.run_ms, self.block_ms(n_runs)


@pytest.fixture
def small_plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    plan = Plan(n_loads=2, n_rounds=3, n_runs=(2, 1))
    monkeypatch.setattr(Plan, "within", lambda *_args: plan)
    return plan


def test_turns_turn_round() -> None:
    assert in_turn("AB", 0) == ["A", "B"]
    assert in_turn("ABC", 1) == ["C", "B", "A"]


def test_order_of_loads_and_rounds(small_plan: Plan) -> None:
    events: list[tuple[str, str]] = []
    openers: list[Any] = [partial(Recorded, "A", 2.0, events), partial(Recorded, "B", 4.0, events)]
    shares: list[float] = []
    times = time_files(openers, 1.0, shares.append)
    assert [name for what, name in events if what == "open"] == ["A", "B", "B", "A"]
    calibration = "AB"
    assert "".join(name for what, name in events if what == "block") == calibration + "ABBAAB" + "BAABBA"
    assert shares == [pytest.approx(part / 6) for part in range(1, 7)]
    assert [own.rounds.shape for own in times] == [(2, 3), (2, 3)]
    assert [own.runs.size for own in times] == [12, 6]
    np.testing.assert_array_equal(times[0].rounds / times[1].rounds, 0.5)


def test_only_one_set_of_sessions_is_open(small_plan: Plan) -> None:
    """Two sets would double the memory, and the second would always lie elsewhere."""
    alive = {"n": 0, "most": 0}

    class Session:
        def __init__(self) -> None:
            alive["n"] += 1
            alive["most"] = max(alive["most"], alive["n"])

        def run(self) -> None:
            """Answers at once."""

        def __del__(self) -> None:
            alive["n"] -= 1

    class Opened(Recorded):
        def __init__(self) -> None:
            super().__init__("A", 1.0, [])
            self.end_to_end = Session().run

    openers: list[Any] = [Opened, Opened]
    time_files(openers, 1.0, lambda _share: None)
    assert alive == {"n": 0, "most": 2}


@given(
    budget_s=st.floats(0.01, 100),
    run_ms=st.lists(st.floats(1e-3, 1e4), min_size=1, max_size=4),
    load_s=st.floats(1e-4, 100),
)
def test_a_plan_has_enough_loads_and_rounds_and_keeps_the_budget(
    budget_s: float, run_ms: list[float], load_s: float
) -> None:
    plan = Plan.within(budget_s, run_ms, load_s)
    assert MIN_LOADS <= plan.n_loads <= N_LOADS
    assert plan.n_rounds >= MIN_ROUNDS
    for n_runs, time_ms in zip(plan.n_runs, run_ms, strict=True):
        assert n_runs * time_ms >= BLOCK_MS or n_runs == 1
    if plan.n_rounds > MIN_ROUNDS:
        round_s = sum((n + 1) * time_ms for n, time_ms in zip(plan.n_runs, run_ms, strict=True)) / 1e3
        assert plan.n_loads * (load_s + plan.n_rounds * round_s) <= budget_s
        assert plan.duration_s(run_ms, load_s) <= budget_s


@pytest.mark.parametrize(("n_rounds", "kept"), [(0, None), (2, (1, 2)), (5, (1, 3)), (6, (2, 3))])
def test_an_interrupt_keeps_the_complete_loads(small_plan: Plan, n_rounds: int, kept: tuple[int, int] | None) -> None:
    """Or, where not even the first load is complete, the complete rounds of it."""
    told: list[float] = []

    def interrupt(share: float) -> None:
        told.append(share)
        if len(told) == n_rounds:
            raise KeyboardInterrupt

    class Interrupting(Recorded):
        def warm_up(self, _limit_s: float) -> None:
            if n_rounds == 0:
                raise KeyboardInterrupt

    timings = Timings(2)
    openers: list[Any] = [partial(Interrupting, "A", 2.0, []), partial(Interrupting, "B", 4.0, [])]
    with pytest.raises(KeyboardInterrupt):
        time_files(openers, 1.0, interrupt, timings)
    times = timings.times()
    assert (None if times is None else times[1].rounds.shape) == kept
