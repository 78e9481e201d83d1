"""Whether a row of a batch depends on the other rows: it does in train mode, and with batch statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnfold.verification.criterion import OutputErrors
    from bnfold.verification.inputs import Feed

__all__ = ["RowsAlone"]


@dataclass(frozen=True)
class _Departure:
    size: float
    row: int
    batch: int


class RowsAlone:
    """Every row that ran alone, against itself in every batch that it is in, wherever it stands there.

    Outputs whose first axis is not the batch are left out, and so is what whole numbers say.
    """

    def __init__(self) -> None:
        self._alone: dict[tuple[str, str, str, int], np.ndarray] = {}
        self._departures: dict[tuple[str, str], _Departure] = {}
        self.n_compared = 0

    def add(self, side: str, feed: Feed, outputs: Mapping[str, np.ndarray]) -> None:
        """Take in the outputs of one side for one feed; the feeds of batch 1 must come first."""
        for name, values in outputs.items():
            if values.ndim == 0 or values.shape[0] != feed.batch or values.dtype.kind in "iub":
                continue
            for row, answer in zip(feed.rows, values, strict=False):
                key = (side, name, feed.size, row)
                if feed.batch == 1:
                    self._alone.setdefault(key, answer.astype(np.float64))
                elif key in self._alone:
                    self._compare(key, answer.astype(np.float64), feed.batch)

    def _compare(self, key: tuple[str, str, str, int], answer: np.ndarray, batch: int) -> None:
        side, name, _, row = key
        alone = self._alone[key]
        self.n_compared += 1
        # A row of another shape (padded to the longest of its batch, say) departs as far as can be.
        size = float(np.abs(answer - alone).max(initial=0.0)) if answer.shape == alone.shape else float("inf")
        if (side, name) not in self._departures or size > self._departures[side, name].size:
            self._departures[side, name] = _Departure(size, row, batch)

    def failure(self, errors: OutputErrors) -> str | None:
        """The sentence for an output with a row that moved further than two right executions can lie apart."""
        allowed = 2 * errors.allowed_maximum  # each within allowed_maximum of the same answer
        for (side, name), departure in self._departures.items():
            if name == errors.name and not departure.size <= allowed:
                return (
                    f"output {name}: row {departure.row} alone and the same row in a batch of {departure.batch} differ "
                    f"by {departure.size:.3g} in {side}, allowed {allowed:.3g}: rows depend on each other, as in train "
                    "mode or with batch statistics"
                )
        return None
