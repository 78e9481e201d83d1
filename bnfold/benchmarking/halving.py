"""The fastest session of one file: successive halving over paired, interleaved measurements.

In every round all sessions that are left take turns in one process, the default among them, one open at a time
(`alone`). One whose first runs take several times the default's is dropped behind these. Behind each round the slower
half goes, and what remains is also tried together. The last round is measured afresh, and it alone says what is faster:
the best of many measured once would look better than it is. What comes of it is to be confirmed, in another period.

Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization", AISTATS 2016.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bnfold.benchmarking.alone import FirstRuns, first_runs, time_alone
from bnfold.benchmarking.crowding import Crowding
from bnfold.benchmarking.noise import CpuMeter
from bnfold.benchmarking.schedule import MIN_LOADS
from bnfold.benchmarking.session_options import merged
from bnfold.benchmarking.statistics import dispersion, ratio_interval
from bnfold.errors import BnfoldError
from bnfold.records.verdicts import decided

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from bnfold.benchmarking.file_times import FileTimes
    from bnfold.benchmarking.timing import Runner
    from bnfold.records.benchmark import Leaning, RatioVerdict
    from bnfold.records.tuning import SessionSettings

    Finals = Callable[[SessionSettings | None], Sequence[SessionSettings]]

__all__ = ["Halving", "Measured", "Tried", "fastest"]

SHARES = (0.25, 0.2)  # of the budget, for the first rounds; the last has what is left
EARLY_LOADS = 2  # sessions of each in the first rounds, at the least: they only rank
FINALISTS = 2
MOST_TOGETHER = 4  # changes in one session
HOPELESS = 3.0  # times the default's time, in the better of the first two runs: busy moments do not come to that


@dataclass(frozen=True)
class Measured:
    """time(session) / time(default) in a round, with its 99 % interval; milliseconds of a request."""

    ratio: float
    low: float
    high: float
    median_ms: float
    verdict: RatioVerdict
    leaning: Leaning | None = None
    note: str | None = None


@dataclass(eq=False)
class Tried:
    """A session, and what became of it.

    `times_ms` are its rounds in the last round of the halving that it was in; `hopeless`, where it was dropped behind
    its first runs, how many times the default's time they took.
    """

    settings: SessionSettings
    rounds: int = 0
    times_ms: NDArray[np.float64] | None = None
    measured: Measured | None = None
    refused: str | None = None
    hopeless: float | None = None


@dataclass
class Halving:
    """The search.

    Attributes:
        default: what others are compared with.
        opener: opens the file in a session, ready to be timed.
        accepts: why a session may not be taken although it may be fast, None where it may.
        threads: of the default, by which it is told whether others were in the way.
        seed: of the intervals.
        progress: told the share that is done.
        tried: every session by its name, in the order of the first round, and
        last: those that took part in the last one; filled by `run`.
    """

    default: SessionSettings
    opener: Callable[[SessionSettings], Runner]
    accepts: Callable[[SessionSettings], str | None]
    threads: int
    seed: int = 0
    progress: Callable[[float], None] = lambda _share: None
    tried: dict[str, Tried] = field(default_factory=dict)
    last: list[Tried] = field(default_factory=list)
    default_ms: float = math.nan

    def run(self, changes: Sequence[SessionSettings], budget_s: float, finals: Finals) -> None:
        """Search.

        Args:
            changes: of the default, one option each.
            budget_s: seconds for all rounds, about; the last takes what six sessions of each need.
            finals: from the best that is left, None for nothing, to what else takes part in the last round.
        """
        left = [self._entry(settings) for settings in changes]
        spent = 0.0
        for number, share in enumerate(SHARES):
            if len(left) <= FINALISTS:
                break
            self._round(left, budget_s * share, EARLY_LOADS, done=(spent, share))
            spent += share
            left = self._better_half(left)
            if number == 0:
                left += self._together(left)
        left = left[:FINALISTS]
        for settings in finals(left[0].settings if left else None):
            entry = self._entry(settings)
            if entry not in left:
                left.append(entry)
        self.last = [entry for entry in left if self._accepted(entry)]
        self._round(self.last, budget_s * (1 - spent), MIN_LOADS, done=(spent, 1 - spent))
        self.last = [entry for entry in self.last if entry.refused is None]

    def _entry(self, settings: SessionSettings) -> Tried:
        return self.tried.setdefault(settings.name(self.default), Tried(settings))

    def _accepted(self, entry: Tried) -> bool:
        entry.refused = entry.refused or self.accepts(entry.settings)
        return entry.refused is None

    def confirm(self, settings: SessionSettings, budget_s: float) -> Measured | None:
        """Measure a session beside the default once more, in sessions opened afresh; None where it ran too slowly."""
        entry = Tried(settings)
        self._round([entry], budget_s, MIN_LOADS, done=(1.0, 0.0))
        return entry.measured

    def _round(self, entries: Sequence[Tried], budget_s: float, least_loads: int, *, done: tuple[float, float]) -> None:
        """Measure sessions beside the default; one that does not open is refused."""
        start, meter, crowding = time.monotonic(), CpuMeter.now(), Crowding(self.threads)
        opened = partial(self.opener, self.default)
        default = first_runs(opened)
        firsts = [(entry, self._first_runs(entry, default)) for entry in entries if entry.refused is None]
        left = [(entry, first) for entry, first in firsts if first is not None and not first.is_hopeless]
        times = time_alone(
            [opened, *(partial(self.opener, entry.settings) for entry, _ in left)],
            [default, *(first for _, first in left)],
            max(0.0, budget_s - (time.monotonic() - start)),
            lambda share: self.progress(done[0] + share * done[1]), least_loads=least_loads, between=crowding.take,
        )  # fmt: skip
        noise = meter.noise_since([dispersion(own.rounds) for own in times], self.threads)
        reason = replace(noise, crowded=crowding.lost).reason()
        self.default_ms = float(np.median(times[0].runs))
        for (entry, _), own in zip(left, times[1:], strict=True):
            entry.rounds += 1
            entry.times_ms = own.rounds
            entry.measured = _compared(own, times[0], reason, self.seed)

    def _first_runs(self, entry: Tried, default: FirstRuns) -> FirstRuns | None:
        """Those of a session; one that does not open is refused, and one that is far slower has lost."""
        try:
            found = first_runs(partial(self.opener, entry.settings), HOPELESS * default.run_ms)
        except BnfoldError as error:
            entry.refused = str(error)
            return None
        if found.is_hopeless:
            entry.hopeless, entry.measured = found.run_ms / default.run_ms, None
        return found

    def _better_half(self, entries: Sequence[Tried]) -> list[Tried]:
        """The faster half, at least the finalists' number, without those that are slower and those not accepted."""
        ranked = sorted((entry for entry in entries if entry.measured is not None), key=_ratio)
        found: list[Tried] = []
        for entry in ranked:
            if len(found) >= max(FINALISTS, math.ceil(len(ranked) / 2)) or (found and _ratio(entry) >= 1):
                break
            if self._accepted(entry):
                found.append(entry)
        return found

    def _together(self, ranked: Sequence[Tried]) -> list[Tried]:
        """The best two changes at once, the best three, and so on."""
        faster = [entry.settings for entry in ranked if _ratio(entry) < 1]
        both = [merged(self.default, faster[:count]) for count in range(2, min(len(faster), MOST_TOGETHER) + 1)]
        entries = {entry.settings.name(self.default): entry for entry in map(self._entry, both)}
        return [entry for entry in entries.values() if entry.rounds == 0 and self._accepted(entry)]


def _ratio(entry: Tried) -> float:
    return math.inf if entry.measured is None else entry.measured.ratio


def _compared(own: FileTimes, default: FileTimes, noise: str | None, seed: int) -> Measured:
    ratio, low, high = ratio_interval(own.rounds / default.rounds, seed)
    verdict, leaning = decided(low, high, may_name=noise is None)
    return Measured(ratio, low, high, float(np.median(own.runs)), verdict, leaning, noise if leaning else None)


def fastest(entries: Sequence[Tried], default: SessionSettings, seed: int) -> Tried | None:
    """The session to recommend: faster than the default by the whole interval; None where no other is.

    Of several that are, those that are not to be told from the fastest have a say, too: the one that changes least.

    Args:
        entries: of the last round.
        default: what they change.
        seed: of the intervals.
    """
    faster = sorted((own for own in entries if own.measured and own.measured.verdict == "faster"), key=_ratio)
    level = [own for own in faster if own is faster[0] or _tied(own, faster[0], seed)]
    return min(level, key=lambda own: (len(own.settings.changes(default)), _ratio(own)), default=None)


def _tied(one: Tried, other: Tried, seed: int) -> bool:
    if one.times_ms is None or other.times_ms is None:
        return False
    _, low, high = ratio_interval(one.times_ms / other.times_ms, seed)
    return low <= 1 <= high
