"""What the two sides are compared on: which rows go together into one batch."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from bnfold.verification.data.input_facts import InputFacts
from bnfold.verification.data.input_rows import InputRows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np

    from bnfold.records import InputSpec

__all__ = ["Extent", "Feed", "make_feeds"]

Kind = Literal["samples", "random", "border"]
Extent = Literal["all", "few", "one"]
SMALL_ROW = 1 << 14  # values of one row up to which the largest batch is repeated, for a steadier measure
N_REPEATS = 4
N_ALONE = 3  # rows that also run alone; together they are the batch of 3


@dataclass(frozen=True)
class Feed:
    """One set of inputs by name, all with the same batch.

    `rows` numbers the rows: the same number is the same row in every feed of one `size`. `size` names the sizes of the
    inputs where they are not those of the source. `shared` says that an input has no batch axis; it is that of the last
    row.
    """

    kind: Kind
    batch: int
    arrays: Mapping[str, np.ndarray] = field(repr=False)
    rows: tuple[int, ...] = ()
    size: str = ""
    shared: bool = False

    def __str__(self) -> str:
        return f"{self.kind} inputs, batch {self.batch}" + (f", {self.size}" if self.size else "")


def make_feeds(
    inputs: Sequence[InputSpec],
    *,
    samples: Mapping[str, np.ndarray] | None,
    facts: Mapping[str, InputFacts],
    batches: Sequence[int],
    seed: int,
    size: str = "",
    extent: Extent = "all",
) -> Iterator[Feed]:
    """Yield the inputs of a comparison, one batch at a time.

    Rows 0, 1 and 2 run alone where a batch of 1 is asked for; they are the batch of 3 too, in another order, and one of
    them is the last row of every other batch, so that a row can be compared with itself in another batch. The other
    rows are new each time, until every sample has been used. Random floating-point inputs are normal, with the mean and
    deviation that the network expects where `facts` knows them, or lie in the range of the input; random integers lie
    below the size of the table they index. Border inputs: zero, constants at mean plus and minus a deviation (or the
    ends and the middle of the range), and single bright pixels in the corners and edges.

    A file that is proven operator by operator needs few of them, see `_few_rows`.

    Args:
        inputs: with every axis but the batch fixed.
        samples: real inputs by name, samples first.
        facts: by input name; an input may be missing.
        batches: sizes, ascending.
        seed: of everything random.
        size: of the feeds, see `Feed`.
        extent: all of these inputs, few of them, or the first of the few.

    Raises:
        InputRefused: an input has an unknown axis or a dtype without values to try, or samples do not fit.
    """
    sources = [InputRows(spec, samples, facts.get(spec.name, InputFacts()), (seed, i)) for i, spec in enumerate(inputs)]
    shared = any(not spec.has_batch and spec.constant is None for spec in inputs)
    for kind, rows in _plan(sources, batches, has_samples=samples is not None, extent=extent):
        arrays = {source.name: source.stack(rows) for source in sources}
        yield Feed(kind, len(rows), arrays, rows, size, shared)


def _plan(
    sources: Sequence[InputRows], batches: Sequence[int], *, has_samples: bool, extent: Extent
) -> Iterator[tuple[Kind, tuple[int, ...]]]:
    """The rows of each feed."""
    is_small = sum(source.n_values for source in sources) <= SMALL_ROW
    n_samples = max((source.n_samples for source in sources), default=0)
    n_border = max((len(source.borders) for source in sources), default=0)
    kind: Kind = "samples" if has_samples else "random"
    if extent == "all":
        n_repeats = N_REPEATS * is_small
        yield from ((kind, rows) for rows in _ordinary_rows(batches, n_samples=n_samples, n_repeats=n_repeats))
        yield from (("border", rows) for rows in _border_rows(n_border, batches))
        return
    few = ((kind, rows) for rows in _few_rows(batches, n_samples=n_samples, n_border=n_border))
    yield from itertools.islice(few, 1 if extent == "one" else None)


def _ordinary_rows(batches: Sequence[int], *, n_samples: int, n_repeats: int) -> Iterator[tuple[int, ...]]:
    """The rows of each batch, see `make_feeds`; what is asked of one batch only holds new rows each time."""
    together = tuple(range(N_ALONE)) if 1 in batches else ()
    for row in together:
        yield (row,)
    fresh = len(together)
    for position, batch in enumerate((*batches, *[batches[-1]] * n_repeats)):
        if batch == 1 and position < len(batches):
            continue
        if together and batch == len(together) and position < len(batches):
            yield (*together[1:], together[0])
            continue
        known = together[: 1 if batch > 1 else 0]
        n_new = batch - len(known)
        yield (*range(fresh, fresh + n_new), *known)
        fresh += n_new
    while fresh < n_samples:
        yield tuple(range(fresh, fresh + batches[-1]))
        fresh += batches[-1]


def _border_rows(n_border: int, batches: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Border rows are numbered -1, -2, ...; the last are filled up with ordinary rows to the smallest batch."""
    for start in range(0, n_border, batches[-1]):
        numbers = range(start, max(min(start + batches[-1], n_border), start + batches[0]))
        yield tuple(-1 - number if number < n_border else number - n_border for number in numbers)


def _few_rows(batches: Sequence[int], *, n_samples: int, n_border: int) -> Iterator[tuple[int, ...]]:
    """Row 0 alone; the largest batch, a border row first and row 0 last; the others, each an end of the largest.

    So every batch is run, row 0 in each, and no row is new in the smaller ones: what is known of the rows of the
    largest is known of theirs. Samples that are left follow.
    """
    largest = batches[-1]
    border = (-n_border,) if n_border else ()
    if largest == 1:
        yield from ((0,), *([border] if border else []))
        rows: tuple[int, ...] = (0,)
    else:
        if 1 in batches:
            yield (0,)
        rows = (*border, *range(1, largest - len(border)), 0)
        yield from (rows[-batch:] for batch in reversed(batches) if batch > 1)
    fresh = max(rows) + 1
    while fresh < n_samples:
        yield tuple(range(fresh, fresh + largest))
        fresh += largest
