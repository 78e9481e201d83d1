"""Which inputs a comparison runs on: batches, sizes, and what follows from its outcome."""

from __future__ import annotations

import functools
import itertools
import logging
from typing import TYPE_CHECKING

from bnfold.verification.answers import Answers
from bnfold.verification.disagreement import refuse_disagreement
from bnfold.verification.graph_facts import input_axes
from bnfold.verification.input_rows import channel_statistics
from bnfold.verification.inputs import make_feeds
from bnfold.verification.sizes import batches_to_compare, other_sizes, size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np

    from bnfold.records import InputSpec
    from bnfold.verification.comparison import Comparison
    from bnfold.verification.inputs import Extent, Feed, InputFacts

    # Sizes of the inputs, and what makes the feeds of these sizes, the same each time.
    Asked = tuple[Sequence[InputSpec], Callable[[], Iterator[Feed]]]

__all__ = ["Scope", "compare"]

OTHER_SIZE_BATCH = 2
SOURCE_SHARE = 0.7  # of a comparison: the source's answers in float64, about
log = logging.getLogger("bnfold.verification")


class Scope:
    """What a comparison has run on: the batches, the shapes of a row by input, and what it could not run on."""

    def __init__(self) -> None:
        self.batches: tuple[int, ...] = ()
        self.sizes: dict[str, tuple[tuple[int, ...], ...]] = {}
        self.warnings: list[str] = []

    def add_size(self, inputs: Sequence[InputSpec]) -> None:
        """Note the shapes of a row, those that are new."""
        for spec in inputs:
            row = tuple(size for size in spec.row if size is not None)
            known = self.sizes.get(spec.name, ())
            self.sizes[spec.name] = known if row in known else (*known, row)


def compare(
    comparison: Comparison,
    inputs: Sequence[InputSpec],
    *,
    samples: Mapping[str, np.ndarray] | None,
    batches: Sequence[int],
    seed: int,
    scope: Scope | None = None,
    extent: Extent = "all",
    share: Callable[[float], None] | None = None,
) -> Scope:
    """Ask the source, then the file, and judge the parameters where outputs lie further from float64 than the source's.

    What it ran on comes back (in `scope`, where one is given, even if it ends early); the errors are in
    `comparison.outputs`.

    Args:
        comparison: of the file and its source.
        inputs: of the source, in order.
        samples: real inputs by name, rows first; None takes random ones.
        batches: sizes to compare at besides 1, 2 and 3.
        seed: of the random inputs.
        scope: filled in where given.
        extent: all inputs; or few or one of them, where what fails is to be compared on all.
        share: told how much is done, from 0 to 1.

    Raises:
        Unequal: names, dtypes or shapes differ, or the file does not run.
        InputRefused: a batch is asked for that the file has not, the inputs cannot be made, or the float64 answer is
            not that of the network which ONNX Runtime executes.
    """
    scope = scope or Scope()
    shaped = comparison.match_inputs(inputs)
    comparison.match_outputs()
    scope.batches = tuple(batches_to_compare(shaped, batches))
    facts = dict(comparison.reference.input_facts)
    feeds = functools.partial(
        make_feeds, shaped, samples=samples, facts=facts, batches=scope.batches, seed=seed, extent=extent
    )
    asked: list[Asked] = [(shaped, feeds)]
    with Answers() as answers:
        for feed in _told(feeds, share, (0.0, SOURCE_SHARE)):
            log.debug("asking the source on %s", feed)
            comparison.ask_source(feed, answers, extent=extent)
        if extent != "one":
            known = _with_samples(facts, samples)
            asked += _ask_at_other_size(comparison, shaped, known, scope, answers, seed=seed, extent=extent)
        comparison.end_source()

        def every_feed() -> Iterator[Feed]:
            return itertools.chain.from_iterable(made() for _, made in asked)

        refuse_disagreement(comparison.outputs, comparison.reference, every_feed, answers, seed=seed)
        comparison.reference.release()
        comparison.ask_file(every_feed, answers)
        if share is not None:
            share(1.0)
        if any(errors.failure() for errors in comparison.outputs.values()):
            comparison.judge_parameters(feeds(), answers, seed=seed)
    for sized, _ in asked:
        scope.add_size(sized)
    return scope


def _told(
    feeds: Callable[[], Iterator[Feed]], share: Callable[[float], None] | None, ends: tuple[float, float]
) -> Iterator[Feed]:
    """The feeds; behind each is told how much is done, between two shares of the whole."""
    if share is None:
        yield from feeds()
        return
    n = sum(1 for _ in feeds())
    for number, feed in enumerate(feeds(), 1):
        yield feed
        share(ends[0] + (ends[1] - ends[0]) * number / n)


def _ask_at_other_size(
    comparison: Comparison,
    inputs: Sequence[InputSpec],
    facts: Mapping[str, InputFacts],
    scope: Scope,
    answers: Answers,
    *,
    seed: int,
    extent: Extent,
) -> list[Asked]:
    """Ask the source at the first other size of the dynamic axes that it runs at; empty where there is none."""
    batch = max(scope.batches[0], min(OTHER_SIZE_BATCH, scope.batches[-1]))
    if extent != "all":
        batch, extent = scope.batches[0], "one"
    tried = []
    for sized in other_sizes(inputs, comparison.declared_axes, _source_axes(comparison)):
        text = size_text(sized)
        tried.append(text)
        feeds = functools.partial(
            make_feeds, sized, samples=None, facts=facts, batches=[batch], seed=seed, size=text, extent=extent
        )
        if not _source_runs(comparison, next(feeds()), extent):
            continue
        for feed in feeds():
            log.debug("asking the source on %s", feed)
            comparison.ask_source(feed, answers, extent=extent)
        return [(sized, feeds)]
    if tried:
        scope.warnings.append(
            f"dynamic axes were compared at one size only: the source does not run at {'; nor at '.join(tried)}"
        )
    return []


def _source_axes(comparison: Comparison) -> dict[str, tuple[int | str | None, ...]]:
    """The axes of the unfolded graph's inputs; empty without one."""
    plain = comparison.reference.plain
    return {} if plain is None else input_axes(plain)


def _source_runs(comparison: Comparison, feed: Feed, extent: Extent) -> bool:
    """Whether the source takes inputs of this size.

    A user's network, and ONNX Runtime, may raise anything where it does not; the caller then warns that the size was
    not compared.
    """
    try:
        if extent == "all":
            comparison.reference.executions32(feed.arrays)
        else:
            comparison.reference.execution32(feed.arrays)
    except Exception:
        log.debug("the source does not run on %s", feed, exc_info=True)
        return False
    return True


def _with_samples(facts: Mapping[str, InputFacts], samples: Mapping[str, np.ndarray] | None) -> dict[str, InputFacts]:
    """The facts, and the statistics of real samples where no mean is known: random rows stand in for them."""
    known = dict(facts)
    for name, rows in (samples or {}).items():
        if (name not in known or known[name].mean is None) and rows.ndim > 1:
            statistics = channel_statistics(rows)
            if statistics is not None:
                known[name] = statistics
    return known
