"""Samples of one class each: what was right, the surest mistakes, and how two files differ on the same samples."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bnfold.errors import InputRefused
from bnfold.evaluation.intervals import Interval, Paired, wilson
from bnfold.evaluation.scores import Difference
from bnfold.records import ClassMetrics, Mistake
from bnfold.sources.extras import require

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["N_MISTAKES", "Classified", "probabilities"]

N_MISTAKES = 12
TOP = 5
_ROUNDED = 2.0**-10  # how far probabilities may sum from 1: twice what rounding each to float16 leaves, 2^-11 of it


@dataclass
class Classified:
    """A class for each sample: outputs (N, n_classes), targets (N,).

    Args:
        order: the number in the output of each label of the data.
        classes: names in the order of the output.
        names: of the samples; empty where they have none.
        where: the file, for errors.
    """

    order: np.ndarray
    classes: tuple[str, ...]
    names: tuple[str, ...]
    where: str
    labels: list[np.ndarray] = field(default_factory=list)
    ranks: list[np.ndarray] = field(default_factory=list)
    predicted: list[np.ndarray] = field(default_factory=list)
    mistakes: list[tuple[float, int, int, int, np.ndarray]] = field(default_factory=list)
    n: int = 0

    def add(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], targets: np.ndarray) -> None:
        """Take in a batch, and keep the inputs of the surest mistakes.

        Raises:
            InputRefused: the output is not (N, n_classes), a label is not among the classes, or values are not finite.
        """
        scores = np.asarray(outputs[0], np.float64)
        if scores.shape != (len(targets), len(self.classes)):
            raise InputRefused(
                "the output does not fit a classification", where=self.where, found=str(scores.shape),
                expected=f"({len(targets)}, {len(self.classes)})", remedy="evaluate a network with one score a class",
            )  # fmt: skip
        if targets.min(initial=0) < 0 or targets.max(initial=0) >= len(self.order):
            raise InputRefused(
                "the data has a label that the file has not", where=self.where,
                found=str(int(targets[(targets < 0) | (targets >= len(self.order))][0])),
                expected=f"0 to {len(self.order) - 1}", remedy="evaluate on data of the network's classes",
            )  # fmt: skip
        if not np.isfinite(scores).all():
            sample = self.n + int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0])
            raise InputRefused(
                "the output is not finite", where=self.where, found=f"NaN or infinity for sample {sample}",
                remedy="compare the file with its source: bnfold verify SOURCE FILE",
            )  # fmt: skip
        labels = self.order[targets]
        own = scores[np.arange(len(labels)), labels]
        predicted = scores.argmax(axis=1)
        # Of equal scores the first wins, as in argmax.
        before = np.arange(scores.shape[1]) < labels[:, None]
        ranks = (scores > own[:, None]).sum(1) + ((scores == own[:, None]) & before).sum(1)
        self._keep_mistakes(inputs[0], labels, predicted, probabilities(scores))
        self.labels.append(labels)
        self.ranks.append(ranks)
        self.predicted.append(predicted)
        self.n += len(labels)

    def _keep_mistakes(self, x: np.ndarray, labels: np.ndarray, predicted: np.ndarray, sure: np.ndarray) -> None:
        for row in np.flatnonzero(labels != predicted):
            own = int(predicted[row])
            entry = (float(sure[row, own]), -(self.n + int(row)), int(labels[row]), own, x[row])
            if len(self.mistakes) < N_MISTAKES:
                heapq.heappush(self.mistakes, entry)
            elif entry[:2] > self.mistakes[0][:2]:
                heapq.heapreplace(self.mistakes, entry)

    def metrics(self) -> dict[str, Interval]:
        """Accuracy, and the part whose label is among the first five where there are more classes."""
        ranks = np.concatenate(self.ranks)
        found = {"accuracy": wilson(int((ranks == 0).sum()), self.n)}
        if len(self.classes) > TOP:
            found[f"top{TOP}"] = wilson(int((ranks < TOP).sum()), self.n)
        return found

    def difference(self, other: Classified, metric: str) -> Difference:
        """Of accuracy or top5, paired; agreement counts equal predictions."""
        limit = 1 if metric == "accuracy" else TOP
        mine, theirs = (np.concatenate(scores.ranks) < limit for scores in (self, other))
        paired = Paired(self.n, int((mine & ~theirs).sum()), int((theirs & ~mine).sum()))
        same = np.concatenate(self.predicted) == np.concatenate(other.predicted)
        return Difference(paired.difference(), float(same.mean()), paired)

    def confusion(self) -> tuple[tuple[int, ...], ...]:
        """Samples by label (row) and prediction (column)."""
        matrix = _sklearn().confusion_matrix(
            np.concatenate(self.labels), np.concatenate(self.predicted), labels=np.arange(len(self.classes))
        )
        return tuple(tuple(map(int, row)) for row in matrix)

    def per_class(self) -> tuple[ClassMetrics, ...]:
        """Recall, precision and F1 of the classes that the data has."""
        precision, recall, f1, support = _sklearn().precision_recall_fscore_support(
            np.concatenate(self.labels), np.concatenate(self.predicted), labels=np.arange(len(self.classes)),
            zero_division=0.0,
        )  # fmt: skip
        rows = zip(self.classes, support, recall, precision, f1, strict=True)
        return tuple(ClassMetrics(name, int(n), float(r), float(p), float(f)) for name, n, r, p, f in rows if n)

    def worst(self) -> tuple[Mistake, ...]:
        """The surest mistakes, the surest first."""
        return tuple(
            Mistake(-index, self.name(-index), self.classes[label], self.classes[taken], sure)
            for sure, index, label, taken, _ in sorted(self.mistakes, key=lambda entry: entry[:2], reverse=True)
        )

    def worst_inputs(self) -> list[np.ndarray]:
        """What the network read there."""
        return [entry[4] for entry in sorted(self.mistakes, key=lambda entry: entry[:2], reverse=True)]

    def name(self, index: int) -> str | None:
        """The name of a sample."""
        return self.names[index] if self.names else None


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Scores (N, C) as probabilities: as they are where they sum to 1, else their softmax."""
    if scores.min() >= 0 and np.abs(scores.sum(axis=1) - 1).max() <= _ROUNDED:
        return scores
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def _sklearn() -> Any:
    return require("sklearn.metrics", extra="evaluate", purpose="metrics of a classification")
