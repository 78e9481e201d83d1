"""A file and its source on the same feeds: the source first, then the file, then its parameters where need be."""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bnfold.errors import InputRefused
from bnfold.numerics.error_bounds import unit_roundoff
from bnfold.runtime.memory import give_back_memory
from bnfold.verification.checks.compared_feeds import asked_series, other_series, row_sizes
from bnfold.verification.checks.interface import Difference, differing_outputs, matched_inputs
from bnfold.verification.checks.parameter_errors import judge_parameters
from bnfold.verification.checks.pooled_errors import NotFinite, PooledErrors
from bnfold.verification.checks.source_agreement import Disagreement, disagreement
from bnfold.verification.data.compared_sizes import batches_to_compare, size_text
from bnfold.verification.execution.answers import Answer, Answers
from bnfold.verification.execution.file_sessions import AS_WRITTEN, DEPLOYED
from bnfold.verification.execution.source_runs import SourceRuns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy as np

    from bnfold.records import InputSpec
    from bnfold.verification.checks.compared_feeds import FeedSeries
    from bnfold.verification.checks.parameter_errors import ParameterErrors
    from bnfold.verification.data.feeds import Extent, Feed
    from bnfold.verification.execution.candidate import Candidate
    from bnfold.verification.execution.reference import Reference

__all__ = ["AskedSource", "Compared", "ask_file", "compare", "judged_parameters"]

SOURCE_SHARE = 0.7  # of a comparison: the source's answers in float64, about
log = logging.getLogger("bnfold.verification")


@dataclass(frozen=True)
class Compared:
    """A comparison that has come to its end: the errors, and what it has run on.

    `difference` is what ended it before values could be compared, on all feeds or on one.
    """

    errors: PooledErrors
    batches: tuple[int, ...] = ()
    sizes: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    difference: Difference | None = None

    def failure(self) -> str | None:
        """Why the file does not pass, None where it does."""
        return self.errors.failure() if self.difference is None else self.difference.sentence


def compare(
    candidate: Candidate,
    reference: Reference,
    inputs: Sequence[InputSpec],
    *,
    samples: Mapping[str, np.ndarray] | None,
    batches: Sequence[int],
    seed: int,
    extent: Extent = "all",
    share: Callable[[float], None] | None = None,
) -> Compared | NotFinite | Disagreement:
    """Ask the source, then the file, and judge the parameters where outputs lie further from float64 than the source's.

    Args:
        candidate: the file.
        reference: its source.
        inputs: of the source, in order.
        samples: real inputs by name, rows first; None takes random ones.
        batches: sizes to compare at besides 1, 2 and 3.
        seed: of the random inputs.
        extent: all inputs; or few or one of them, where what fails is to be compared on all.
        share: told how much is done, from 0 to 1.

    Returns:
        The comparison; or what the source has no finite answer to; or that its float64 answer is not that of the
        network which ONNX Runtime executes.

    Raises:
        InputRefused: a batch is asked for that the file has not, the inputs cannot be made, or the source has no
            answer.
    """
    errors = PooledErrors(candidate.precision, reference)
    shaped = matched_inputs(candidate.sessions.inputs, inputs, reference)
    different = shaped if isinstance(shaped, Difference) else differing_outputs(candidate.sessions.outputs, reference)
    if isinstance(shaped, Difference) or different is not None:
        return Compared(errors, difference=different)
    found = tuple(batches_to_compare(shaped, batches))
    asked = asked_series(shaped, reference, samples=samples, batches=found, seed=seed, extent=extent)
    with Answers() as answers:
        source = AskedSource(reference, errors, answers)
        refused = source.ask(asked, told=_told(share))
        if refused is not None:
            return refused
        others = other_series(asked, candidate, reference, samples=samples, batches=found, seed=seed)
        other = source.ask_first(others) if extent != "one" else OtherSize()
        if isinstance(other, NotFinite):
            return other
        source.end()
        every = [asked, *other.series]

        def feeds() -> Iterator[Feed]:
            return itertools.chain.from_iterable(series.made() for series in every)

        disagreeing = disagreement(errors.outputs, reference, feeds, answers, seed=seed)
        if disagreeing is not None:
            return disagreeing
        reference.release()
        different = ask_file(candidate, errors, feeds, answers)
        if different is not None:
            return Compared(errors, found, warnings=other.warnings, difference=different)
        if share is not None:
            share(1.0)
        if any(output.failure() for output in errors.outputs.values()):
            errors.add_parameters(judged_parameters(candidate, reference, asked.made(), answers, seed=seed))
    return Compared(errors, found, row_sizes(every), other.warnings)


def _told(share: Callable[[float], None] | None) -> Callable[[FeedSeries], Iterator[Feed]]:
    """The feeds of a series; behind each is told how much of the comparison is done."""
    if share is None:
        return lambda series: series.made()

    def told(series: FeedSeries) -> Iterator[Feed]:
        n = sum(1 for _ in series.made())
        for number, feed in enumerate(series.made(), 1):
            yield feed
            share(SOURCE_SHARE * number / n)

    return told


@dataclass(frozen=True)
class OtherSize:
    """The feeds of another size that the source was asked on, none or one series, and what is said of none."""

    series: tuple[FeedSeries, ...] = ()
    warnings: tuple[str, ...] = ()


class AskedSource:
    """The source, its answers kept and its own errors pooled.

    Args:
        reference: the source.
        errors: that its own are added to.
        answers: that its answers are added to.
    """

    def __init__(self, reference: Reference, errors: PooledErrors, answers: Answers) -> None:
        self._reference, self._errors, self._answers = reference, errors, answers
        self._runs = SourceRuns(reference)

    def ask(self, series: FeedSeries, told: Callable[[FeedSeries], Iterator[Feed]] | None = None) -> NotFinite | None:
        """On every feed, or up to the first one whose answer is not finite; raises InputRefused as `SourceRuns.ask`."""
        for feed in series.made() if told is None else told(series):
            log.debug("asking the source on %s", feed)
            exact, executions = self._runs.ask(feed, series.extent)
            answer = Answer.of(exact, executions)
            refused = self._errors.add_source(feed, answer, executions)
            if refused is not None:
                return refused
            self._answers.add(answer)
            give_back_memory()
        return None

    def end(self) -> None:
        """Behind the last feed; raises InputRefused as `SourceRuns.end`."""
        self._runs.end()

    def ask_first(self, others: Iterable[FeedSeries]) -> OtherSize | NotFinite:
        """On the first series at whose size it runs."""
        tried = []
        for series in others:
            if self._runs_at(series):
                refused = self.ask(series)
                return refused if refused is not None else OtherSize((series,))
            tried.append(size_text(series.inputs))
        if not tried:
            return OtherSize()
        sentence = "dynamic axes were compared at one size only: the source does not run at "
        return OtherSize((), (sentence + "; nor at ".join(tried),))

    def _runs_at(self, series: FeedSeries) -> bool:
        """Whether the source takes inputs of this size.

        A user's network, and ONNX Runtime, may raise anything where it does not; that the size was not compared is a
        warning then.
        """
        feed = next(series.made())
        try:
            if series.extent == "all":
                self._reference.executions32(feed.arrays)
            else:
                self._reference.execution32(feed.arrays)
        except Exception:
            log.debug("the source does not run on %s", feed, exc_info=True)
            return False
        return True


def ask_file(
    candidate: Candidate, errors: PooledErrors, feeds: Callable[[], Iterable[Feed]], answers: Iterable[Answer]
) -> Difference | None:
    """The file on every feed that the source has answered, up to the first difference of kind.

    Args:
        candidate: the file.
        errors: that its own are added to.
        feeds: makes them again, once for each way of executing the file.
        answers: in the order of the feeds.
    """
    for label in (AS_WRITTEN, DEPLOYED):
        for (feed, got), answer in zip(candidate.sessions.run(label, feeds()), answers, strict=True):
            if isinstance(got, str):
                return Difference(f"the file does not run on {feed} ({label}): {got}")
            different = errors.add_file(label, feed, got, answer)
            if different is not None:
                return different
    return None


def judged_parameters(
    candidate: Candidate, reference: Reference, feeds: Iterable[Feed], answers: Iterable[Answer] = (), *, seed: int
) -> dict[str, ParameterErrors]:
    """Tell a right file that float32 treats badly from a wrong one; see `bnfold.verification.checks.parameter_errors`.

    Files of float64 are left to the first criterion: the reference has no digits beyond theirs.
    """
    if candidate.precision.u <= unit_roundoff("float64"):
        return {}
    known = (answer.exact for answer in answers)
    try:
        return judge_parameters(candidate.model(), reference, feeds, u=candidate.precision.u, seed=seed, known=known)
    except InputRefused as refused:
        log.warning("the parameters of the file cannot be judged: %s", refused)
        return {}
