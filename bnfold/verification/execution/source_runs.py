"""The source on one feed after the other: what is known of its rows is not asked again, and chance is refused."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from bnfold.errors import InputRefused
from bnfold.runtime.memory import give_back_memory
from bnfold.verification.execution.answers import Answer, Answers
from bnfold.verification.execution.known_rows import KnownRows, chance

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np

    from bnfold.verification.data.feeds import Extent, Feed
    from bnfold.verification.execution.reference import Arrays, Reference

__all__ = ["SourceRun", "SourceRuns"]

log = logging.getLogger("bnfold.verification")
MOST_CHARACTERS = 300  # of an error that a warning tells


@dataclass(frozen=True)
class SourceRun:
    """The source on one feed: its answer, and its executions in its own precision."""

    feed: Feed
    answer: Answer
    executions: Sequence[Arrays]


class SourceRuns:
    """A source, asked feed by feed; a context, behind which its answers are gone.

    Attributes:
        answers: to all feeds so far, in their order.

    Args:
        reference: the source.
    """

    def __init__(self, reference: Reference) -> None:
        self.answers = Answers()
        self._reference = reference
        self._known = KnownRows()
        self._has_answered = False
        self._first: tuple[Feed, Arrays] | None = None  # of those that are asked by row

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.answers.close()

    def run(self, feeds: Iterable[Feed], extent: Extent) -> Iterator[SourceRun]:
        """Ask the source on each feed.

        Where few inputs decide, one execution of the source counts, and rows that are known are not asked again. Its
        error is the largest of fewer then, so that no file passes for it; one that fails is compared on all.

        Args:
            feeds: the inputs.
            extent: of the feeds.

        Raises:
            InputRefused: the source has no answer, or another one each time.
        """
        for feed in feeds:
            log.debug("asking the source on %s", feed)
            exact, *executions = self._values(feed) if extent == "all" else self._values_by_row(feed)
            for name in self._reference.output_names:
                _refuse_other_shapes(name, exact[name], [execution[name] for execution in executions])
            self._has_answered = True
            answer = Answer.of(exact, executions)
            self.answers.add(answer)
            yield SourceRun(feed, answer, executions)
            del exact, executions, answer
            give_back_memory()

    def error_on(self, feed: Feed, extent: Extent) -> str | None:
        """What the source raises on inputs of this size; None where it runs.

        A user's network, and ONNX Runtime, may raise any exception where it does not run. The caller warns that the
        size was not compared, and says why.
        """
        try:
            if extent == "all":
                self._reference.executions32(feed.arrays)
            else:
                self._reference.execution32(feed.arrays)
        except Exception as error:
            log.debug("the source does not run on %s", feed, exc_info=True)
            return " ".join(f"{type(error).__name__}: {error}".split())[:MOST_CHARACTERS]
        return None

    def end(self) -> None:
        """Ask a network once again that has been asked for no row twice; a file holds no chance that it could hide.

        Raises:
            InputRefused: it has another answer.
        """
        if self._first is not None and not self._known.is_held and not self._reference.is_file:
            self._refuse_chance(self._first[1], self._first[0])
        self._first = None

    def _values(self, feed: Feed) -> list[Arrays]:
        exact = self._reference.evaluate64(feed.arrays)
        if not self._has_answered:
            self._refuse_chance(exact, feed)
        return [exact, *self._reference.executions32(feed.arrays)]

    def _values_by_row(self, feed: Feed) -> list[Arrays]:
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
