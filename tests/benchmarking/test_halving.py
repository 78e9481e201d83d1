"""The search for the fastest session: on times that are known, so that the right answer is."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bnfold.benchmarking import halving
from bnfold.benchmarking.alone import FirstRuns
from bnfold.benchmarking.crowding import Crowding
from bnfold.benchmarking.file_times import FileTimes
from bnfold.benchmarking.halving import Halving, Tried, fastest
from bnfold.benchmarking.noise import CpuMeter, Noise
from bnfold.benchmarking.schedule import MIN_LOADS, Plan
from bnfold.benchmarking.session_options import merged
from bnfold.errors import InputRefused
from bnfold.records.tuning import SessionSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DEFAULT = SessionSettings(threads=4)
FACTORS = {"threads": 0.9, "spinning": 1.2, "arena": 1.02, "mem_pattern": 1.05, "denormals_as_zero": 0.95}
CHANGES = [
    dataclasses.replace(DEFAULT, threads=2),
    dataclasses.replace(DEFAULT, spinning=False),
    dataclasses.replace(DEFAULT, arena=False),
    dataclasses.replace(DEFAULT, mem_pattern=False),
    dataclasses.replace(DEFAULT, denormals_as_zero=True),
]


class Machine:
    """Times of sessions: the product of what each change is worth, with 1 % of noise; counts what is opened."""

    def __init__(self, factors: dict[str, float]) -> None:
        self.factors = dict(factors)
        self.rounds: list[tuple[list[str], float, int]] = []
        self._random = np.random.default_rng(0)

    def first_runs(self, opener: Any, limit_ms: float = np.inf) -> FirstRuns:
        opener()
        ms = self._ms(opener.args[0])
        return FirstRuns(0.0, ms, is_hopeless=ms > limit_ms)

    def _ms(self, own: SessionSettings) -> float:
        return 10.0 * float(np.prod([self.factors.get(key, 1.0) for key in own.changes(DEFAULT)]))

    def time_alone(
        self, openers: Sequence[Any], first: Any, budget_s: float, progress: Any, *, least_loads: int, between: Any
    ) -> Any:
        assert len(first) == len(openers)
        between()
        sessions = [opener.args[0] for opener in openers]
        self.rounds.append(([own.name(DEFAULT) for own in sessions], budget_s, least_loads))
        progress(1.0)
        found = []
        for own in sessions:
            times = self._ms(own) * (1 + 0.01 * self._random.standard_normal((least_loads, 30)))
            found.append(FileTimes(times, times))
        return found


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Halving, Machine]]:
    """Search on a machine with these factors; `noise` is what disturbed it."""

    def run(
        factors: dict[str, float],
        *,
        refused: Sequence[str] = (),
        broken: Sequence[str] = (),
        noise: Noise | None = None,
        crowded: float = 0.0,
        finals: Any = lambda _best: [],
    ) -> tuple[Halving, Machine]:
        machine = Machine(factors)
        monkeypatch.setattr(halving, "time_alone", machine.time_alone)
        monkeypatch.setattr(halving, "first_runs", machine.first_runs)
        monkeypatch.setattr(Crowding, "take", lambda own: own.losses.append(crowded))
        monkeypatch.setattr(CpuMeter, "noise_since", lambda *_arguments: noise or Noise())

        def opened(settings: SessionSettings) -> Any:
            if not set(broken).isdisjoint(settings.changes(DEFAULT)):
                raise InputRefused("it does not load")

        def accepts(settings: SessionSettings) -> str | None:
            return None if set(refused).isdisjoint(settings.changes(DEFAULT)) else "its numbers leave the proof"

        found = Halving(DEFAULT, opened, accepts, threads=4)
        found.run(CHANGES, 100.0, finals)
        return found, machine

    return run


def winner(found: Halving) -> str:
    best = fastest(found.last, DEFAULT, 0)
    return "default" if best is None else best.settings.name(DEFAULT)


def test_what_helps_is_combined_and_found(search: Any) -> None:
    found, machine = search(FACTORS)
    assert winner(found) == "threads=2, denormals_as_zero on"
    assert [len(names) for names, _, _ in machine.rounds] == [6, 4, 3]
    assert all(names[0] == "default" for names, _, _ in machine.rounds)


def test_the_budget_is_shared_and_the_last_round_has_an_interval(search: Any) -> None:
    _, machine = search(FACTORS)
    assert sum(budget for _, budget, _ in machine.rounds) == pytest.approx(100.0, abs=0.1)
    assert [loads for _, _, loads in machine.rounds] == [halving.EARLY_LOADS, halving.EARLY_LOADS, MIN_LOADS]


def test_nothing_is_recommended_where_nothing_is_faster(search: Any) -> None:
    found, _ = search({"threads": 1.1, "spinning": 1.2, "mem_pattern": 1.01})
    assert winner(found) == "default"
    assert "tie" in {own.measured.verdict for own in found.last if own.measured}


def test_a_noisy_machine_names_no_winner(search: Any) -> None:
    found, _ = search(FACTORS, noise=Noise(displaced=0.5))
    assert winner(found) == "default"
    best = found.tried["threads=2"].measured
    assert (best.verdict, best.leaning) == ("undecided", "faster")
    assert best.note.startswith("noisy machine")


def test_cpus_that_are_shared_name_no_winner(search: Any) -> None:
    found, _ = search(FACTORS, crowded=0.45)
    assert winner(found) == "default"
    assert found.tried["threads=2"].measured.note == "noisy machine: CPUs lost 45% of their speed beside each other"
    found, _ = search(FACTORS, crowded=0.15)  # a core's clock, where all are busy
    assert winner(found) == "threads=2, denormals_as_zero on"


def test_a_session_a_thousand_times_slower_takes_part_in_no_round(search: Any) -> None:
    found, machine = search({**FACTORS, "arena": 1000.0})
    assert found.tried["arena off"].hopeless == pytest.approx(1000.0)
    assert found.tried["arena off"].measured is None
    assert not any("arena" in name for names, _, _ in machine.rounds for name in names)
    assert winner(found) == "threads=2, denormals_as_zero on"


def test_a_session_is_measured_again_beside_the_default_alone(search: Any) -> None:
    found, machine = search(FACTORS)
    again = found.confirm(CHANGES[0], 10.0)
    assert (again.verdict, round(again.ratio, 1)) == ("faster", 0.9)
    names, _, least = machine.rounds[-1]
    assert (names, least) == (["default", "threads=2"], MIN_LOADS)
    machine.factors["threads"] = 5.0
    assert found.confirm(CHANGES[0], 10.0) is None


def test_wrong_numbers_never_come_to_the_last_round(search: Any) -> None:
    found, machine = search(FACTORS, refused=["threads"])
    assert winner(found) == "denormals_as_zero on"
    assert found.tried["threads=2"].refused == "its numbers leave the proof"
    assert not any("threads=2" in name for names, _, _ in machine.rounds[1:] for name in names)


def test_a_session_that_does_not_open_is_refused_and_the_rest_goes_on(search: Any) -> None:
    found, machine = search(FACTORS, broken=["denormals_as_zero"])
    assert "it does not load" in found.tried["denormals_as_zero on"].refused
    assert winner(found) == "threads=2"
    assert not any("denormals" in name for names, _, _ in machine.rounds for name in names)


def test_what_takes_part_in_the_last_round_is_asked_of_the_best(search: Any) -> None:
    asked = []

    def finals(best: SessionSettings | None) -> list[SessionSettings]:
        asked.append(best)
        return [dataclasses.replace(DEFAULT, optimize="offline")]

    found, machine = search(FACTORS, finals=finals)
    assert [own.name(DEFAULT) for own in asked] == ["threads=2, denormals_as_zero on"]
    assert machine.rounds[-1][0][-1] == "optimize=offline"
    assert found.last[-1].settings.optimize == "offline"


def test_of_equals_the_one_that_changes_least_is_taken() -> None:
    random = np.random.default_rng(0)

    def tried(settings: SessionSettings, factor: float) -> Tried:
        times = factor * (1 + 0.01 * random.standard_normal((6, 30)))
        measured = halving.Measured(factor, factor - 0.01, factor + 0.01, 1.0, "faster" if factor < 0.99 else "tie")
        return Tried(settings, 3, times, measured)

    one, two = CHANGES[0], merged(DEFAULT, [CHANGES[0], CHANGES[4]])
    assert fastest([tried(two, 0.900), tried(one, 0.901)], DEFAULT, 0).settings == one
    assert fastest([tried(two, 0.80), tried(one, 0.90)], DEFAULT, 0).settings == two
    assert fastest([tried(one, 1.0)], DEFAULT, 0) is None


def test_fewer_loads_are_a_plan_too() -> None:
    plan = Plan.within(0.0, [100.0], 1.0, least_loads=2)
    assert (plan.n_loads, Plan.within(0.0, [100.0], 1.0).n_loads) == (2, MIN_LOADS)
