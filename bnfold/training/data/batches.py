"""What a data set is to the loop: batches of inputs and targets from three splits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch

__all__ = ["SPLITS", "Batch", "DataSet", "IndexedData", "MemoryData", "Split"]

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


class Batch(NamedTuple):
    """Inputs in the order of the network's `forward`, first axis the sample, and what the task wants of them."""

    inputs: tuple[torch.Tensor, ...]
    targets: torch.Tensor


class DataSet(Protocol):
    """What the loop and the run's record need of a data set."""

    @property
    def n_classes(self) -> int:
        """The number of classes of the targets; 0 where there are none."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """Name, sizes, normalisation and split, for run.json."""

    def batches(self, split: Split, batch_size: int, *, shuffle: torch.Generator | None = None) -> Iterator[Batch]:
        """One pass over a split: every sample once, or, shuffled for training, full batches only."""

    def n_batches(self, split: Split, batch_size: int) -> int:
        """The number of shuffled batches of one pass."""


class IndexedData:
    """The order of the samples, for data sets whose samples have numbers; `size` and `take` are theirs."""

    def size(self, split: Split) -> int:
        """The number of samples of a split."""
        raise NotImplementedError

    def take(self, split: Split, index: torch.Tensor) -> Batch:
        """The samples of these numbers."""
        raise NotImplementedError

    def n_batches(self, split: Split, batch_size: int) -> int:
        """Full batches in a split, at least one."""
        return max(1, self.size(split) // batch_size)

    def batches(self, split: Split, batch_size: int, *, shuffle: torch.Generator | None = None) -> Iterator[Batch]:
        """One pass over a split.

        With `shuffle` the order is drawn from it and a last batch shorter than the others is left out: a BatchNorm in
        training mode has no variance over a single sample, and weighs the samples of a short batch too heavily. A
        split smaller than one batch is one batch.
        """
        import torch

        n = self.size(split)
        order = torch.arange(n) if shuffle is None else torch.randperm(n, generator=shuffle)
        stop = n if shuffle is None else min(n, self.n_batches(split, batch_size) * batch_size)
        for start in range(0, stop, batch_size):
            yield self.take(split, order[start : min(stop, start + batch_size)])


@dataclass(frozen=True)
class MemoryData(IndexedData):
    """A data set that is small enough to lie in memory: each split is one large batch."""

    splits: Mapping[Split, Batch]
    n_classes: int
    facts: Mapping[str, Any]

    def size(self, split: Split) -> int:
        """The number of samples of a split."""
        return len(self.splits[split].targets)

    def take(self, split: Split, index: torch.Tensor) -> Batch:
        """The samples of these numbers."""
        inputs, targets = self.splits[split]
        return Batch(tuple(x[index] for x in inputs), targets[index])
