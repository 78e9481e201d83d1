"""A file and its source on the same feeds: the source first, then the file, then its parameters where need be."""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bnfold.errors import InputRefused
from bnfold.numerics.error_bounds import unit_roundoff
from bnfold.verification.checks.interface import Difference, differing_outputs, matched_inputs
from bnfold.verification.checks.parameter_errors import judge_execution, judge_parameters
from bnfold.verification.checks.pooled_errors import NotFinite, PooledErrors
from bnfold.verification.checks.source_agreement import Disagreement, disagreement
from bnfold.verification.data.compared_sizes import batches_to_compare, size_text
from bnfold.verification.data.feed_series import asked_series, other_series, row_sizes
from bnfold.verification.data.input_facts import input_axes
from bnfold.verification.execution.source_runs import SourceRuns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy as np

    from bnfold.records import InputSpec
    from bnfold.verification.data.feed_series import FeedSeries
    from bnfold.verification.data.feeds import Extent, Feed
    from bnfold.verification.execution.answers import Answer
    from bnfold.verification.execution.candidate import Candidate
    from bnfold.verification.execution.reference import Reference

__all__ = ["Compared", "compare", "judge"]

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
        samples: real inputs by name, samples first; None takes random ones.
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
    if isinstance(shaped, Difference):
        return Compared(errors, difference=shaped)
    different = differing_outputs(candidate.sessions.outputs, reference)
    if different is not None:
        return Compared(errors, difference=different)
    found, facts = tuple(batches_to_compare(shaped, batches)), reference.input_facts
    asked = asked_series(shaped, facts, samples=samples, batches=found, seed=seed, extent=extent)
    with SourceRuns(reference) as source:
        refused = errors.take_source(source.run(_told(asked, share), extent))
        if refused is not None:
            return refused
        axes = (candidate.sessions.declared_axes, _axes(reference)) if extent != "one" else ({}, {})
        others = other_series(asked, *axes, facts, samples=samples, batches=found, seed=seed)
        other, warnings = _first_taken(source, others)
        refused = None if other is None else errors.take_source(source.run(other.made(), other.extent))
        if refused is not None:
            return refused
        source.end()
        every = [asked] if other is None else [asked, other]

        def feeds() -> Iterator[Feed]:
            return itertools.chain.from_iterable(series.made() for series in every)

        disagreeing = disagreement(errors.outputs, reference, feeds, source.answers, seed=seed)
        if disagreeing is not None:
            return disagreeing
        reference.release()
        different = errors.take_file(candidate.sessions.run(feeds, source.answers))
        if different is not None:
            return Compared(errors, found, warnings=warnings, difference=different)
        if share is not None:
            share(1.0)
        if errors.has_failed_outputs:
            judge(errors, candidate, reference, asked.made, source.answers, seed=seed)
    return Compared(errors, found, row_sizes(every), warnings)


def _told(series: FeedSeries, share: Callable[[float], None] | None) -> Iterator[Feed]:
    """The feeds of a series; behind each is told how much of the comparison is done."""
    if share is None:
        yield from series.made()
        return
    n = sum(1 for _ in series.made())
    for number, feed in enumerate(series.made(), 1):
        yield feed
        share(SOURCE_SHARE * number / n)


def _axes(reference: Reference) -> dict[str, tuple[int | str | None, ...]]:
    """The axes of the unfolded graph's inputs; none without one."""
    plain = reference.plain
    return {} if plain is None else input_axes(plain)


def _first_taken(source: SourceRuns, others: Iterable[FeedSeries]) -> tuple[FeedSeries | None, tuple[str, ...]]:
    """The first series at whose size the source runs; and what is said where it runs at none."""
    tried, errors = [], []
    for series in others:
        error = source.error_on(next(series.made()), series.extent)
        if error is None:
            return series, ()
        tried.append(size_text(series.inputs))
        errors.append(error)
    sentence = "dynamic axes were compared at one size only: the source does not run at "
    return None, (f"{sentence}{'; nor at '.join(tried)}: {errors[0]}",) if tried else ()


def judge(
    errors: PooledErrors,
    candidate: Candidate,
    reference: Reference,
    feeds: Callable[[], Iterable[Feed]],
    answers: Iterable[Answer] = (),
    *,
    seed: int,
) -> None:
    """Tell a right file that float32 treats badly from a wrong one; see `bnfold.verification.checks.parameter_errors`.

    Files of float64 are left to the first criterion: the reference has no digits beyond theirs.

    Args:
        errors: of the comparison; takes in what is found.
        candidate: the file.
        reference: its source.
        feeds: makes the inputs of the comparison.
        answers: of the source to the first of them, or to all.
        seed: of the roundings.
    """
    u = candidate.precision.u
    if u <= unit_roundoff("float64"):
        return
    known = (answer.exact for answer in answers)
    try:
        model = candidate.model()
        errors.take_parameters(judge_parameters(model, reference, feeds(), u=u, seed=seed, known=known))
        if errors.has_failed_by_execution:
            errors.take_execution(judge_execution(model, feeds(), u=u, seed=seed))
    except InputRefused as refused:
        log.warning("the parameters of the file cannot be judged: %s", refused)
