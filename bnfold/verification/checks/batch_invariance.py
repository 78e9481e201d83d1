"""Whether a row of a batch depends on the other rows: it does in train mode, and with batch statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bnfold.verification.execution.known_rows import batch_axis

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnfold.verification.checks.criterion import OutputErrors
    from bnfold.verification.data.feeds import Feed

__all__ = ["SOURCE", "BatchInvariance"]

SOURCE = "the source in float64"


@dataclass(frozen=True)
class _Moved:
    size: float
    row: int
    batch: int


class BatchInvariance:
    """Every row that ran alone, against itself in every batch that it is in, wherever it stands there.

    The batch axis of an output is the first one that is 1 for a row alone and the batch for several. Outputs without
    one are left out, and so is what whole numbers say. Where an input has no batch axis, only the last row of a batch
    is compared, since that input is its own.

    Args:
        source_may_mix: whether rows of the source may depend on each other. In a file they do so on purpose (a loop
            over the batch, a first axis that is time); in a network a layer may be in train mode.
    """

    def __init__(self, *, source_may_mix: bool = False) -> None:
        self._source_may_mix = source_may_mix
        self._alone: dict[tuple[str, str, str, int], np.ndarray] = {}  # with the batch axis, of length 1
        self._moved: dict[tuple[str, str], _Moved] = {}
        self.n_compared = 0

    def add(self, side: str, feed: Feed, outputs: Mapping[str, np.ndarray]) -> None:
        """Take in the outputs of one side for one feed; the feeds of batch 1 must come first."""
        for name, values in outputs.items():
            if values.ndim == 0 or values.dtype.kind in "iub":
                continue
            for position, row in enumerate(feed.rows):
                key = (side, name, feed.size, row)
                if feed.batch == 1:
                    self._alone.setdefault(key, values.astype(np.float64))
                elif key in self._alone and (not feed.shared or position == len(feed.rows) - 1):
                    self._compare(key, values, position, feed.batch)

    def _compare(self, key: tuple[str, str, str, int], values: np.ndarray, position: int, batch: int) -> None:
        side, name, _, row = key
        alone = self._alone[key]
        axis = batch_axis(alone.shape, values.shape, batch)
        if axis is None:
            return
        alone, answer = alone.take(0, axis), values.take(position, axis).astype(np.float64)
        self.n_compared += 1
        # A row of another shape (padded to the longest of its batch, say) diverges as far as can be.
        size = float(np.abs(answer - alone).max(initial=0.0)) if answer.shape == alone.shape else float("inf")
        if (side, name) not in self._moved or size > self._moved[side, name].size:
            self._moved[side, name] = _Moved(size, row, batch)

    def failure(self, errors: OutputErrors) -> str | None:
        """The sentence for an output with a row that moved further than two right executions can lie apart."""
        if self.warning(errors) is not None:
            return None
        found = (self._sentence(side, errors) for side, name in self._moved if name == errors.name)
        return next((sentence for sentence in found if sentence is not None), None)

    def warning(self, errors: OutputErrors) -> str | None:
        """The same where the source does so and may: then the file must do it too, and is compared in every batch."""
        return self._sentence(SOURCE, errors) if self._source_may_mix else None

    def _sentence(self, side: str, errors: OutputErrors) -> str | None:
        moved = self._moved.get((side, errors.name))
        allowed = 2 * errors.allowed_maximum  # each within allowed_maximum of the same answer
        if moved is None or moved.size <= allowed:  # not so for NaN
            return None
        return (
            f"output {errors.name}: sample {moved.row} alone and the same sample in a batch of {moved.batch} differ "
            f"by {moved.size:.3g} in {side}, where rounding allows {allowed:.3g}: samples depend on each other, as in "
            "train mode or with batch statistics, or the axis that counts them is not the batch"
        )
