"""What was right, sample by sample: from outputs and targets to metrics with intervals, and to paired differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from bnfold.evaluation.intervals import Interval, Paired
from bnfold.records import Metric

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

__all__ = ["Difference", "Scores", "as_metric"]


@dataclass(frozen=True)
class Difference:
    """A metric of one file minus that of another on the same samples; `paired` where a sample is right or wrong."""

    interval: Interval
    agreement: float | None = None
    paired: Paired | None = None


class Scores(Protocol):
    """The scores of one contender, batch by batch in the order of the samples."""

    def add(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], targets: np.ndarray) -> None:
        """Take in a batch.

        Raises:
            InputRefused: the outputs do not fit the task.
        """

    def metrics(self) -> Mapping[str, Interval]:
        """The metrics by name, the most important first."""

    def difference(self, other: Any, metric: str) -> Difference:
        """Of a metric, to other scores on the same samples."""


def as_metric(interval: Interval) -> Metric:
    """The record of an interval."""
    return Metric(interval.value, interval.low, interval.high)
