"""What a source has answered, row by row: a batch of rows that it has answered already need not be asked again.

Where the rows of a batch do not depend on each other, the answer to a batch is the answers to its rows:

    f(x_1, ..., x_b)  =  (f(x_1), ..., f(x_b)).

That is held against the source first: a row alone, and the same row in a batch, in float64. Rounding leaves half of the
digits of float64 at least, whatever the order of a sum; train mode, batch statistics and chance do not.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bnfold.numerics.error_bounds import unit_roundoff

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnfold.verification.data.feeds import Feed

__all__ = ["KnownRows", "batch_axis", "chance"]

Arrays = dict[str, np.ndarray]
IN_MEMORY = 1 << 24  # bytes of a batch's answers whose rows are kept


class KnownRows:
    """The rows of the first batch of a source that holds a row which has run alone, and that row.

    The answers of a feed are the float64 values, then those of the source's own executions.

    Attributes:
        is_held: whether a row has been held against itself in a batch.
    """

    def __init__(self) -> None:
        self._alone: tuple[int, Arrays] | None = None
        self._axes: dict[str, int] = {}
        self.is_held = False
        self._rows: dict[int, list[Arrays]] = {}

    def learn(self, feed: Feed, answers: Sequence[Arrays]) -> bool:
        """Take in an answer; False where the row that ran alone has another one in this batch."""
        if feed.size or self.is_held:
            return True
        if feed.batch == 1:
            self._alone = self._alone or (feed.rows[0], answers[0])
            return True
        if self._alone is None or self._alone[0] != feed.rows[-1]:
            return True
        alone = self._alone[1]
        axes = {name: batch_axis(array.shape, answers[0][name].shape, feed.batch) for name, array in alone.items()}
        for name, axis in axes.items():
            if axis is not None and differs(answers[0][name].take(-1, axis), alone[name].take(0, axis)):
                return False
        self.is_held = True
        if None not in axes.values() and sum(a.nbytes for answer in answers for a in answer.values()) <= IN_MEMORY:
            self._axes = {name: axis for name, axis in axes.items() if axis is not None}
            for position, row in enumerate(feed.rows):
                self._rows[row] = [
                    {name: array.take([position], self._axes[name]) for name, array in answer.items()}
                    for answer in answers
                ]
        return True

    def answers(self, feed: Feed) -> list[Arrays] | None:
        """What the source says of a batch of rows that are known; None where one is not, or of one row alone."""
        if feed.size or feed.batch == 1 or not all(row in self._rows for row in feed.rows):
            return None
        return [
            {name: np.concatenate([answer[name] for answer in answers], self._axes[name]) for name in self._axes}
            for answers in zip(*(self._rows[row] for row in feed.rows), strict=True)
        ]


def differs(first: np.ndarray, again: np.ndarray) -> bool:
    """Whether two answers in float64 differ by more than rounding leaves; what is not finite does not count."""
    return chance(first, again) > 0


def chance(first: np.ndarray, again: np.ndarray) -> float:
    """The largest difference of two answers in float64, 0 where rounding may leave it."""
    if first.shape != again.shape:
        return math.inf
    if not np.isfinite(first.astype(np.float64)).all():
        return 0.0
    size = np.sqrt(np.mean(np.square(first.astype(np.float64)))) if first.size else 0.0
    difference = float(np.abs(again.astype(np.float64) - first.astype(np.float64)).max(initial=0.0))
    return difference if difference > math.sqrt(unit_roundoff("float64")) * size else 0.0


def batch_axis(alone: tuple[int, ...], together: tuple[int, ...], batch: int) -> int | None:
    """The first axis that is 1 for one row and `batch` for as many; None where there is none."""
    if len(alone) != len(together):
        return None
    pairs = enumerate(zip(alone, together, strict=True))
    return next((axis for axis, (one, many) in pairs if (one, many) == (1, batch)), None)
