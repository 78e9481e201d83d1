"""What a comparison runs on: the sizes that were asked for, and another one where axes are dynamic."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnfold.verification.data.compared_sizes import Axes, other_sizes, size_text
from bnfold.verification.data.feeds import make_feeds
from bnfold.verification.data.input_rows import channel_statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np

    from bnfold.records import InputSpec
    from bnfold.verification.data.feeds import Extent, Feed
    from bnfold.verification.data.input_facts import InputFacts

__all__ = ["FeedSeries", "asked_series", "other_series", "row_sizes"]

OTHER_SIZE_BATCH = 2


@dataclass(frozen=True)
class FeedSeries:
    """Feeds of one size; `made` makes them, the same each time."""

    inputs: Sequence[InputSpec]
    extent: Extent
    made: Callable[[], Iterator[Feed]]


def asked_series(
    inputs: Sequence[InputSpec],
    facts: Mapping[str, InputFacts],
    *,
    samples: Mapping[str, np.ndarray] | None,
    batches: Sequence[int],
    seed: int,
    extent: Extent,
) -> FeedSeries:
    """The feeds at the sizes of the inputs; see `make_feeds` for the arguments."""
    made = functools.partial(
        make_feeds, inputs, samples=samples, facts=dict(facts), batches=batches, seed=seed, extent=extent
    )
    return FeedSeries(inputs, extent, made)


def other_series(
    asked: FeedSeries,
    file: Mapping[str, Axes],
    source: Mapping[str, Axes],
    facts: Mapping[str, InputFacts],
    *,
    samples: Mapping[str, np.ndarray] | None,
    batches: Sequence[int],
    seed: int,
) -> Iterator[FeedSeries]:
    """The feeds at other sizes of the dynamic axes, to be tried in order; none where no axis is dynamic.

    Args:
        asked: those at the sizes of the inputs.
        file: the axes of the file's inputs, numbers where they are fixed.
        source: those of the source's.
        facts: as for `asked`.
        samples: as for `asked`; the rows are random, with their statistics.
        batches: that `asked` has.
        seed: of the random rows.
    """
    known = _with_samples(facts, samples)
    extent, batch = asked.extent, max(batches[0], min(OTHER_SIZE_BATCH, batches[-1]))
    if extent != "all":
        batch, extent = batches[0], "one"
    for sized in other_sizes(asked.inputs, file, source):
        made = functools.partial(
            make_feeds, sized, samples=None, facts=known, batches=[batch], seed=seed, size=size_text(sized),
            extent=extent,
        )  # fmt: skip
        yield FeedSeries(sized, extent, made)


def row_sizes(every: Sequence[FeedSeries]) -> dict[str, tuple[tuple[int, ...], ...]]:
    """The shapes of a row by input, each once."""
    sizes: dict[str, tuple[tuple[int, ...], ...]] = {}
    for spec in (spec for series in every for spec in series.inputs):
        row = tuple(size for size in spec.row if size is not None)
        known = sizes.get(spec.name, ())
        sizes[spec.name] = known if row in known else (*known, row)
    return sizes


def _with_samples(facts: Mapping[str, InputFacts], samples: Mapping[str, np.ndarray] | None) -> dict[str, InputFacts]:
    """The facts, and the statistics of real samples where no mean is known: random rows stand in for them."""
    known = dict(facts)
    for name, rows in (samples or {}).items():
        if (name not in known or known[name].mean is None) and rows.ndim > 1:
            statistics = channel_statistics(rows)
            if statistics is not None:
                known[name] = statistics
    return known
