"""The source on one feed after the other: what is known of its rows is not asked again, and chance is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfold.errors import InputRefused
from bnfold.verification.execution.known_rows import KnownRows, chance

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from bnfold.verification.data.feeds import Extent, Feed
    from bnfold.verification.execution.reference import Arrays, Reference

__all__ = ["SourceRuns"]


class SourceRuns:
    """A source, asked feed by feed.

    Args:
        reference: the source.
    """

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._known = KnownRows()
        self._has_answered = False
        self._first: tuple[Feed, Arrays] | None = None  # of those that are asked by row

    def ask(self, feed: Feed, extent: Extent) -> tuple[Arrays, list[Arrays]]:
        """The float64 values, and the source's own executions.

        Where few inputs decide, one execution of the source counts, and rows that are known are not asked again. Its
        error is the largest of fewer then, so that no file passes for it; one that fails is compared on all.

        Args:
            feed: the inputs.
            extent: of the feeds.

        Raises:
            InputRefused: the source has no answer, or another one each time.
        """
        exact, *executions = self._answers(feed) if extent == "all" else self._answers_by_row(feed)
        for name in self._reference.output_names:
            _refuse_other_shapes(name, exact[name], [execution[name] for execution in executions])
        self._has_answered = True
        return exact, executions

    def end(self) -> None:
        """Ask a network once again that has been asked for no row twice; a file holds no chance that it could hide.

        Raises:
            InputRefused: it has another answer.
        """
        if self._first is not None and not self._known.is_held and not self._reference.is_file:
            self._refuse_chance(self._first[1], self._first[0])
        self._first = None

    def _answers(self, feed: Feed) -> list[Arrays]:
        exact = self._reference.evaluate64(feed.arrays)
        if not self._has_answered:
            self._refuse_chance(exact, feed)
        return [exact, *self._reference.executions32(feed.arrays)]

    def _answers_by_row(self, feed: Feed) -> list[Arrays]:
        known = self._known.answers(feed)
        if known is not None:
            return known
        found = [self._reference.evaluate64(feed.arrays), self._reference.execution32(feed.arrays)]
        if not self._known.learn(feed, found):
            self._refuse_chance(found[0], feed)
        self._first = self._first or (feed, found[0])
        return found

    def _refuse_chance(self, first: Arrays, feed: Feed) -> None:
        """A source that gives other values when run again has no answer to compare with."""
        again = self._reference.evaluate64(feed.arrays)
        for name, values in first.items():
            if difference := chance(values, again[name]):
                raise InputRefused(
                    "the source gives other values when it is run again",
                    where=f"output {name}",
                    found=f"a difference of {difference:.3g} on the same input",
                    remedy="take randomness and counters out of forward, and call eval() on every layer",
                )


def _refuse_other_shapes(name: str, exact: np.ndarray, executions: Sequence[np.ndarray]) -> None:
    for execution in executions:
        if execution.shape != exact.shape:
            raise InputRefused(
                "the source has another shape in float64 than in its own precision",
                where=f"output {name}",
                found=f"{exact.shape} and {execution.shape}",
                remedy="export it with another opset, or without the operator that its executions read in two ways",
            )
