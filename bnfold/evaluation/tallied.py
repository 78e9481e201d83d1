"""Tasks whose metrics are made of sums over samples: segmentation, detection, generation."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from bnfold.evaluation.intervals import Interval, bootstrap, jackknife
from bnfold.evaluation.scores import Difference

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnfold.training.data import Batch
    from bnfold.training.tasks import Task

__all__ = ["Tallied"]


@dataclass
class Tallied:
    """Tasks whose metrics are made of sums over samples: segmentation, detection, generation.

    Args:
        task: of `bnfold.training.tasks`, which made the metrics of the training run.
        where: the file, for errors.
    """

    task: Task
    where: str
    rows: list[sparse.csr_array] = field(default_factory=list)
    n: int = 0

    def add(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], targets: np.ndarray) -> None:
        """Take in a batch, one tally a sample."""
        from bnfold.training.data import Batch

        x, y = [_tensor(array) for array in inputs], _tensor(targets)
        found = [_tensor(output) for output in outputs]
        whole = found[0] if len(found) == 1 else tuple(found)
        self.task.check(whole, Batch(tuple(x), y))
        for row in range(len(targets)):
            own = [output[row : row + 1] for output in found]
            batch: Batch = Batch(tuple(array[row : row + 1] for array in x), y[row : row + 1])
            tally = self.task.tally(own[0] if len(own) == 1 else tuple(own), batch)
            self.rows.append(sparse.csr_array(tally.double().numpy()[np.newaxis]))
            self.n += 1

    @functools.cached_property
    def _tallies(self) -> sparse.csr_array:
        return sparse.vstack(self.rows, format="csr")

    def _metric(self, name: str, drawn: np.ndarray) -> float:
        import torch

        weights = np.bincount(drawn, minlength=self.n)
        total = torch.from_numpy(np.asarray(weights @ self._tallies, np.float64))
        return float(self.task.metrics(total)[name])

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The metrics, the goal of the task first; without the loss, which users do not ask for."""
        import torch

        total = torch.from_numpy(np.asarray(self._tallies.sum(axis=0), np.float64).ravel())
        others = [name for name in self.task.metrics(total) if name not in (self.task.goal, "loss")]
        return (self.task.goal, *others)

    def metrics(self) -> dict[str, Interval]:
        """The metrics of the task; intervals are over samples drawn with replacement, of distances by the jackknife."""
        return {name: self._interval(functools.partial(self._metric, name)) for name in self.names}

    def _interval(self, statistic: Callable[[np.ndarray], float]) -> Interval:
        return (bootstrap if self.task.maximise else jackknife)(statistic, self.n)

    def difference(self, other: Tallied, metric: str) -> Difference:
        """Of a metric, over the same draws of both."""
        return Difference(self._interval(lambda drawn: self._metric(metric, drawn) - other._metric(metric, drawn)))


def _tensor(array: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(array))
