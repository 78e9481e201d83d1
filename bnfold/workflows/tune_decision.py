"""What comes of a search: the session to recommend, by the steady state first, then by starts in fresh processes.

Then it is confirmed: measured beside the default once more, in another period, with processes started in between, since
what others do to a machine lasts longer than a round. Both periods must say so, each by its whole interval.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.benchmarking.halving import Measured, Tried, fastest
from bnfold.benchmarking.session_runs import steady_ms, total_ms
from bnfold.benchmarking.statistics import ratio_interval
from bnfold.records.tuning import ColdStarts, TriedOption, TunedTime
from bnfold.records.verdicts import decided
from bnfold.runtime import provider_spec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnfold.benchmarking.cold_start import ColdStart
    from bnfold.benchmarking.halving import Halving
    from bnfold.benchmarking.session_runs import SessionRuns
    from bnfold.records.benchmark import RatioVerdict
    from bnfold.records.tuning import SessionSettings

__all__ = ["Decision", "decide"]

DIFFERENT = "its numbers are not bit for bit those of the default, and cannot be proven beside other sessions"


@dataclasses.dataclass(frozen=True)
class Decision:
    """The session, its time beside the default's, its cold starts, and what came of denormals; None: not measured.

    `unconfirmed`: sessions that were faster at first, by name, and what became of that.
    """

    settings: SessionSettings
    steady: TunedTime
    cold: ColdStarts | None = None
    denormals: TriedOption | None = None
    unconfirmed: Mapping[str, str] = dataclasses.field(default_factory=dict)


def decide(search: Halving, runs: SessionRuns, *, seed: int, budget_s: float, confirmed_s: float) -> Decision:
    """Decide.

    The steady state decides first. Then comes, on the CPU, whether denormal numbers are taken for 0, which only a
    process of its own shows. Between the session that was chosen and the same on a graph optimized offline the cold
    start decides, where the steady state of the latter is no slower than the default's. What is not confirmed is left
    out, and the rest decided again.

    Args:
        search: that has run.
        runs: the file.
        seed: of the intervals.
        budget_s: seconds for fresh processes; 0 starts none.
        confirmed_s: seconds to confirm it in.
    """
    unconfirmed: dict[str, str] = {}
    while True:
        found = _chosen(search, runs, unconfirmed, seed=seed, budget_s=budget_s)
        if found.settings == search.default:
            return dataclasses.replace(found, unconfirmed=unconfirmed)
        again = (
            _again_flushed(found, search, runs, seed, budget_s)
            if found.settings.denormals_as_zero
            else _again(search.confirm(found.settings, confirmed_s), search.default_ms)
        )
        if again is not None and _is_confirmed(found.steady.verdict, again):
            return dataclasses.replace(found, steady=again, unconfirmed=unconfirmed)
        unconfirmed[found.settings.name(search.default)] = _not_again(found.steady, again)


def _is_confirmed(verdict: RatioVerdict, again: TunedTime) -> bool:
    """Faster both times; or, where only the start is faster, not slower either time."""
    return again.verdict == "faster" or (verdict == "tie" and again.verdict == "tie")


def _again(measured: Measured | None, default_ms: float) -> TunedTime | None:
    return None if measured is None else _steady(measured, default_ms)


def _again_flushed(found: Decision, search: Halving, runs: SessionRuns, seed: int, budget_s: float) -> TunedTime | None:
    ours, plain = runs.cold_starts([found.settings, search.default], budget_s)
    return _flushed_time(ours, plain, seed)


def _not_again(steady: TunedTime, again: TunedTime | None) -> str:
    if again is None:
        return "it was several times slower when it was measured again"
    ends = f"{again.ratio:.3f} ({again.low:.3f} to {again.high:.3f})"
    note = f"; {again.note}" if again.note else ""
    return f"{steady.ratio:.3f} of the default's time at first, {ends} when it was measured again{note}"


def _chosen(search: Halving, runs: SessionRuns, without: Mapping[str, str], *, seed: int, budget_s: float) -> Decision:
    """What the search and starts in fresh processes say, before it is confirmed."""
    default = search.default
    last = [own for own in search.last if own.settings.name(default) not in without]
    best = fastest([own for own in last if own.settings.optimize == "online"], default, seed)
    settings = default if best is None else best.settings
    measured = None if best is None else best.measured
    if not budget_s:
        return Decision(settings, _steady(measured, search.default_ms))
    twin = next((own for own in last if own.settings == dataclasses.replace(settings, optimize="offline")), None)
    sessions = [default, settings, *([] if twin is None else [twin.settings])]
    flushed = dataclasses.replace(settings, denormals_as_zero=True)
    if provider_spec(default.provider).on_host:
        sessions.append(flushed)
    distinct = {own.name(default): own for own in sessions}
    found = runs.cold_starts(list(distinct.values()), budget_s)
    starts = dict(zip(distinct, found, strict=True))
    own = starts[settings.name(default)]
    tried, better = None, None
    if flushed in sessions:
        ours = starts[flushed.name(default)]
        tried, better = _denormals((flushed, default), ours, own, starts["default"], seed)
        if flushed.name(default) in without:
            tried, better = dataclasses.replace(tried, outcome="unconfirmed", reason=without[tried.name]), None
        if better is not None:
            return Decision(flushed, better, _cold(ours, starts["default"], seed), tried)
    if twin is not None and _is_taken_offline(twin, best, starts[twin.settings.name(default)], own, seed):
        measured, settings, own = twin.measured, twin.settings, starts[twin.settings.name(default)]
    return Decision(settings, _steady(measured, search.default_ms), _cold(own, starts["default"], seed), tried)


def _is_taken_offline(
    twin: Tried, best: Tried | None, starts: Sequence[ColdStart], online: Sequence[ColdStart], seed: int
) -> bool:
    """Whether a graph optimized offline starts faster, and answers no slower than what was chosen without it."""
    verdict = twin.measured.verdict if twin.measured is not None else "slower"
    is_no_slower = verdict == "faster" if best is not None else verdict in ("faster", "tie")
    return is_no_slower and ratio_interval(total_ms(starts) / total_ms(online), seed)[2] < 1


def _denormals(
    pair: tuple[SessionSettings, SessionSettings],
    ours: Sequence[ColdStart],
    without: Sequence[ColdStart],
    plain: Sequence[ColdStart],
    seed: int,
) -> tuple[TriedOption, TunedTime | None]:
    """What came of them; and where they are taken, faster than without and than the default, the time.

    Args:
        pair: the session with them, and the default.
        ours: its starts, those
        without: them, and those that are
        plain: of the default.
        seed: of the intervals.
    """
    flushed, default = pair
    ratio, low, high = ratio_interval(steady_ms(ours) / steady_ms(without), seed)
    verdict, _ = decided(low, high, may_name=True)
    is_same = {start.answers for start in ours} == {start.answers for start in without}
    against = _flushed_time(ours, plain, seed)
    is_taken = verdict == "faster" and is_same and against.verdict == "faster"
    outcome: Any = "recommended" if is_taken else verdict
    tried = TriedOption(
        flushed.name(default), flushed.changes(default), outcome if is_same else "refused", ratio, low, high, rounds=1,
        reason=None if is_same else DIFFERENT,
    )  # fmt: skip
    return tried, against if is_taken else None


def _flushed_time(ours: Sequence[ColdStart], plain: Sequence[ColdStart], seed: int) -> TunedTime:
    """The steady state of processes of their own."""
    ratio, low, high = ratio_interval(steady_ms(ours) / steady_ms(plain), seed)
    ours_ms, plain_ms = (float(np.median(steady_ms(starts))) for starts in (ours, plain))
    return TunedTime(ratio, low, high, decided(low, high, may_name=True)[0], ours_ms, plain_ms)


def _cold(own: Sequence[ColdStart], default: Sequence[ColdStart], seed: int) -> ColdStarts:
    def median(starts: Sequence[Any], name: str) -> float:
        return float(np.median([getattr(start, name) for start in starts]))

    ratio, low, high = (1.0, 1.0, 1.0) if own is default else ratio_interval(total_ms(own) / total_ms(default), seed)
    return ColdStarts(
        **{name: median(own, name) for name in ("load_ms", "first_ms", "peak_mb")},
        **{f"default_{name}": median(default, name) for name in ("load_ms", "first_ms", "peak_mb")},
        n_starts=len(own), ratio=ratio, low=low, high=high, verdict=decided(low, high, may_name=True)[0],
    )  # fmt: skip


def _steady(measured: Measured | None, default_ms: float) -> TunedTime:
    if measured is None:
        return TunedTime(1.0, 1.0, 1.0, "tie", default_ms, default_ms)
    return TunedTime(
        measured.ratio, measured.low, measured.high, measured.verdict, measured.median_ms, default_ms, measured.note
    )
