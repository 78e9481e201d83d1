"""One file tuned: the options that matter to it, the halving, the cold starts, and what comes of them."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.benchmarking.axes import Cell
from bnfold.benchmarking.halving import Halving, Tried, fastest
from bnfold.benchmarking.inputs import random_inputs
from bnfold.benchmarking.session_options import GraphEffects, default_settings, option_changes
from bnfold.benchmarking.session_runs import SessionRuns, total_ms
from bnfold.benchmarking.statistics import ratio_interval
from bnfold.benchmarking.subjects import file_subject, read_inputs, shapes_of, with_digest
from bnfold.records.tuning import ColdStarts, TriedOption, TunedFile, TunedTime
from bnfold.records.verdicts import decided
from bnfold.report.session_lines import session_lines
from bnfold.workflows.same_numbers import SameNumbers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bnfold.benchmarking.load import Load
    from bnfold.records.tuning import SessionSettings
    from bnfold.runtime import Provider

__all__ = ["Wish", "tune_file"]

COLD_SHARE = 0.25  # of the budget


@dataclasses.dataclass(frozen=True)
class Wish:
    """What `tune` was asked for; see its arguments."""

    provider: Provider
    threads: int
    batch: int
    load: Load
    dims: Mapping[str, int] | None
    input_shapes: Sequence[tuple[int, ...]] | None
    samples: Path | None
    allow_tf32: bool
    budget_s: float
    cold_starts: bool
    seed: int


def tune_file(file: Path, wish: Wish, progress: Callable[[float], None]) -> TunedFile:
    """Tune one file; see `bnfold.workflows.tune.tune`.

    Raises:
        InputRefused: the file does not load or run, in the default session either.
        EnvironmentNotReady: the provider does not load.
    """
    start = time.perf_counter()
    shaped = tuple(map(tuple, wish.input_shapes)) if wish.input_shapes else None
    cell = Cell(wish.provider, wish.threads, "all", shaped, wish.batch, load=wish.load)
    subject = with_digest(file_subject(file.stem, file))
    specs, _, _ = read_inputs([subject], [wish.provider], wish.dims)
    shapes = shapes_of(specs, cell)
    inputs = random_inputs(specs[file], shapes, wish.seed)
    default = default_settings(wish.provider, wish.threads, allow_tf32=wish.allow_tf32)
    numbers = SameNumbers(
        file, default, inputs, wish.samples, {"input_shapes": wish.input_shapes, "dims": wish.dims}, wish.batch,
        wish.seed,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="bnfold-") as folder:
        runs = SessionRuns(file, cell, specs[file], shapes, inputs, Path(folder), wish.seed)
        effects = GraphEffects(file, default)
        changes = [(settings, effects.changes_graph(settings)) for settings in option_changes(default)]
        search = Halving(default, runs.opened, numbers.refusal, wish.threads, wish.seed, progress)
        share = 1 - COLD_SHARE if wish.cold_starts else 1.0
        with_offline = wish.cold_starts and effects.is_written
        search.run(
            [settings for settings, matters in changes if matters], wish.budget_s * share,
            lambda best: _offline(default, best) if with_offline else [],
        )  # fmt: skip
        chosen, cold = _decided(search, runs, wish)
    session = chosen.settings if chosen is not None else default
    return TunedFile(
        name=subject.name, path=str(file), sha256=subject.sha256, batch=wish.batch, input_shapes=shapes,
        default=default, session=session, steady=_steady(chosen, search.default_ms), cold_start=cold,
        ties=tuple(_name(own, default) for own in search.last if own.measured and own.measured.verdict == "tie"),
        options=(*_told(search, chosen), *_implied(changes, default)), lines=session_lines(session, file.name),
        n_measured=len(search.tried), mode=wish.load.mode, concurrency=wish.load.concurrency,
        seconds=time.perf_counter() - start,
    )  # fmt: skip


def _offline(default: SessionSettings, best: SessionSettings | None) -> list[SessionSettings]:
    """The default and the best on graphs that are optimized offline; a CUDA graph is captured of either."""
    return [dataclasses.replace(own, optimize="offline") for own in (default, best) if own is not None]


def _decided(search: Halving, runs: SessionRuns, wish: Wish) -> tuple[Tried | None, ColdStarts | None]:
    """The session to recommend, None for the default, and its cold starts beside the default's.

    The steady state decides first. Between it and the same on a graph optimized offline the cold start does, where the
    steady state is no slower than the default's.
    """
    default = search.default
    online = [own for own in search.last if own.settings.optimize == "online"]
    best = fastest(online, default, wish.seed)
    if not wish.cold_starts:
        return best, None
    settings = default if best is None else best.settings
    twin = next((own for own in search.last if own.settings == dataclasses.replace(settings, optimize="offline")), None)
    sessions = [default, *([settings] if best is not None else []), *([twin.settings] if twin is not None else [])]
    starts = runs.cold_starts(sessions, wish.budget_s * COLD_SHARE)
    times = [total_ms(own) for own in starts]
    if twin is not None and _is_better_cold(times[-1], times[-2], wish.seed) and _is_no_slower(twin, best):
        return twin, _cold(starts[-1], starts[0], wish.seed)
    return best, None if best is None and twin is None else _cold(
        starts[0 if best is None else 1], starts[0], wish.seed
    )


def _is_better_cold(times: Any, other: Any, seed: int) -> bool:
    return ratio_interval(times / other, seed)[2] < 1


def _is_no_slower(twin: Tried, best: Tried | None) -> bool:
    """Than the default, by the same measure as what was chosen without it."""
    verdict = twin.measured.verdict if twin.measured is not None else "slower"
    return verdict == "faster" if best is not None else verdict in ("faster", "tie")


def _cold(own: Sequence[Any], default: Sequence[Any], seed: int) -> ColdStarts:
    def median(starts: Sequence[Any], name: str) -> float:
        return float(np.median([getattr(start, name) for start in starts]))

    ratio, low, high = (1.0, 1.0, 1.0) if own is default else ratio_interval(total_ms(own) / total_ms(default), seed)
    return ColdStarts(
        **{name: median(own, name) for name in ("load_ms", "first_ms", "peak_mb")},
        **{f"default_{name}": median(default, name) for name in ("load_ms", "first_ms", "peak_mb")},
        n_starts=len(own), ratio=ratio, low=low, high=high, verdict=decided(low, high, may_name=True)[0],
    )  # fmt: skip


def _steady(chosen: Tried | None, default_ms: float) -> TunedTime:
    measured = None if chosen is None else chosen.measured
    if measured is None:
        return TunedTime(1.0, 1.0, 1.0, "tie", default_ms, default_ms)
    return TunedTime(
        measured.ratio, measured.low, measured.high, measured.verdict, measured.median_ms, default_ms, measured.note
    )


def _told(search: Halving, chosen: Tried | None) -> list[TriedOption]:
    """Every session that was measured or refused, as the report has it."""
    found = []
    for name, own in search.tried.items():
        measured = own.measured
        outcome: Any = "dropped"
        if own is chosen:
            outcome = "recommended"
        elif own.refused is not None:
            outcome = "refused"
        elif own in search.last and measured is not None:
            outcome = measured.verdict
        facts: dict[str, Any] = {"reason": own.refused}
        if measured is not None:
            facts = {"ratio": measured.ratio, "low": measured.low, "high": measured.high, "leaning": measured.leaning}
            facts["reason"] = own.refused or measured.note
        found.append(TriedOption(name, own.settings.changes(search.default), outcome, rounds=own.rounds, **facts))
    return found


def _implied(changes: Sequence[tuple[SessionSettings, bool]], default: SessionSettings) -> list[TriedOption]:
    return [
        TriedOption(_name(settings, default), settings.changes(default), "implied")
        for settings, matters in changes
        if not matters
    ]


def _name(own: Tried | SessionSettings, default: SessionSettings) -> str:
    return (own.settings if isinstance(own, Tried) else own).name(default)
