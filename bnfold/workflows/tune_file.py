"""One file tuned: the options that matter to it, the halving, the cold starts, and what comes of them."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfold.benchmarking.axes import Cell
from bnfold.benchmarking.halving import Halving, Tried
from bnfold.benchmarking.inputs import random_inputs
from bnfold.benchmarking.offline import open_deployed
from bnfold.benchmarking.session_options import GraphEffects, default_settings, option_changes
from bnfold.benchmarking.session_runs import SessionRuns
from bnfold.benchmarking.subjects import file_subject, read_inputs, shapes_of, with_digest
from bnfold.records.tuning import TriedOption, TunedFile
from bnfold.report.session_lines import session_lines
from bnfold.workflows.same_numbers import SameNumbers
from bnfold.workflows.tune_decision import Decision, decide

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bnfold.benchmarking.load import Load
    from bnfold.records.tuning import SessionSettings
    from bnfold.runtime import Provider

__all__ = ["Wish", "tune_file"]

COLD_SHARE = 0.2  # of the budget
CONFIRMED_SHARE = 0.2
HOPELESS = "its first runs took so many times the default's"


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
    default = default_settings(wish.provider, wish.threads)
    open_deployed(file, default)  # all of it on the provider, or not at all
    numbers = SameNumbers(
        file, default, inputs, wish.samples, {"input_shapes": wish.input_shapes, "dims": wish.dims}, wish.batch,
        wish.seed,
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="bnfold-") as folder:
        runs = SessionRuns(file, cell, specs[file], shapes, inputs, Path(folder), wish.seed)
        effects = GraphEffects(file, default)
        changes = [
            (settings, effects.changes_graph(settings))
            for settings in option_changes(default, allow_tf32=wish.allow_tf32)
        ]
        search = Halving(default, runs.opened, numbers.refusal, wish.threads, wish.seed, progress)
        share = 1 - CONFIRMED_SHARE - (COLD_SHARE if wish.cold_starts else 0.0)
        with_offline = wish.cold_starts and effects.is_written
        search.run(
            [settings for settings, matters in changes if matters], wish.budget_s * share,
            lambda best: _offline(default, best) if with_offline else [],
        )  # fmt: skip
        found = decide(
            search, runs, seed=wish.seed, budget_s=wish.budget_s * COLD_SHARE if wish.cold_starts else 0.0,
            confirmed_s=wish.budget_s * CONFIRMED_SHARE,
        )  # fmt: skip
    options = [*_told(search, found), *([] if found.denormals is None else [found.denormals])]
    return TunedFile(
        name=subject.name, path=str(file), sha256=subject.sha256, batch=wish.batch, input_shapes=shapes,
        default=default, session=found.settings, steady=found.steady, cold_start=found.cold,
        ties=tuple(own.name for own in options if own.outcome == "unconfirmed" or own.name in _tied(search)),
        options=(*options, *_implied(changes, default)), lines=session_lines(found.settings, file.name),
        n_measured=len(search.tried), mode=wish.load.mode, concurrency=wish.load.concurrency,
        seconds=time.perf_counter() - start,
    )  # fmt: skip


def _offline(default: SessionSettings, best: SessionSettings | None) -> list[SessionSettings]:
    """The default and the best on graphs that are optimized offline; a CUDA graph is captured of either."""
    return [dataclasses.replace(own, optimize="offline") for own in (default, best) if own is not None]


def _tied(search: Halving) -> set[str]:
    return {_name(own, search.default) for own in search.last if own.measured and own.measured.verdict == "tie"}


def _told(search: Halving, found: Decision) -> list[TriedOption]:
    """Every session that was measured or refused, as the report has it."""
    return [_option(name, own, search, found) for name, own in search.tried.items()]


def _option(name: str, own: Tried, search: Halving, found: Decision) -> TriedOption:
    measured = own.measured
    outcome: Any = "dropped"
    facts: dict[str, Any] = {"reason": own.refused}
    if measured is not None:
        facts["ratio"] = measured.ratio
    if own.hopeless is not None:
        facts |= {"ratio": own.hopeless, "reason": HOPELESS}
    if measured is not None and own in search.last:
        outcome = measured.verdict
        facts = {"ratio": measured.ratio, "low": measured.low, "high": measured.high, "leaning": measured.leaning}
        facts["reason"] = measured.note
    if own.refused is not None:
        outcome = "refused"
    elif own.settings == found.settings:
        outcome = "recommended"
    elif name in found.unconfirmed:
        outcome, facts["reason"] = "unconfirmed", found.unconfirmed[name]
    return TriedOption(name, own.settings.changes(search.default), outcome, rounds=own.rounds, **facts)


def _implied(changes: Sequence[tuple[SessionSettings, bool]], default: SessionSettings) -> list[TriedOption]:
    return [
        TriedOption(_name(settings, default), settings.changes(default), "implied")
        for settings, matters in changes
        if not matters
    ]


def _name(own: Tried | SessionSettings, default: SessionSettings) -> str:
    return (own.settings if isinstance(own, Tried) else own).name(default)
