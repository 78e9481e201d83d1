"""Whether a row of a batch depends on the other rows: it does in train mode, and with batch statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bnfold.verification.criterion import OutputErrors
    from bnfold.verification.inputs import Feed

__all__ = ["RowsAlone"]


class RowsAlone:
    """Row 0 of every batch, against row 0 alone; real samples and random inputs have the same row 0 in every batch.

    Outputs whose first axis is not the batch are left out.
    """

    def __init__(self) -> None:
        self._alone: dict[tuple[str, str], np.ndarray] = {}
        self._departures: dict[tuple[str, str], tuple[float, int]] = {}

    def add(self, side: str, feed: Feed, outputs: Mapping[str, np.ndarray]) -> None:
        """Take in the outputs of one side for one feed; the feed of batch 1 must come first."""
        if feed.kind == "border":
            return
        for name, values in outputs.items():
            if values.ndim == 0 or values.shape[0] != feed.batch or values.dtype.kind in "iub":
                continue
            if feed.batch == 1:
                self._alone.setdefault((side, name), values[0].astype(np.float64))
            elif (side, name) in self._alone:
                self._compare(side, name, values[0].astype(np.float64), feed.batch)

    def _compare(self, side: str, name: str, row: np.ndarray, batch: int) -> None:
        alone = self._alone[side, name]
        # A row of another shape (padded to the longest of its batch, say) departs as far as can be.
        departure = float(np.abs(row - alone).max(initial=0.0)) if row.shape == alone.shape else float("inf")
        if departure > self._departures.get((side, name), (0.0, 0))[0]:
            self._departures[side, name] = (departure, batch)

    def failure(self, errors: OutputErrors) -> str | None:
        """The sentence for an output whose row 0 moved further than two right executions can lie apart."""
        allowed = 2 * errors.allowed_maximum  # each within allowed_maximum of the same answer
        for (side, name), (departure, batch) in self._departures.items():
            if name == errors.name and not departure <= allowed:
                return (
                    f"output {name}: row 0 alone and row 0 in a batch of {batch} differ by {departure:.3g} in {side}, "
                    f"allowed {allowed:.3g}: rows depend on each other, as in train mode or with batch statistics"
                )
        return None
