"""How good a network is on labelled data: `bnfold evaluate` and `bnfold predict`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from bnfold.shown import Shown

__all__ = [
    "ClassMetrics",
    "DataFacts",
    "EvaluatePair",
    "EvaluateReport",
    "EvaluatedFile",
    "Metric",
    "MetricGate",
    "Mistake",
    "Prediction",
]


@dataclasses.dataclass(frozen=True)
class DataFacts:
    """The labelled data: its name, the split, how many samples, and the digest of what was read."""

    spec: str
    split: str
    n: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric with its 99 % interval; 0 to 1, but for a Fréchet distance."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class ClassMetrics:
    """One class: its samples, how many of them were recognised, how often its name was right, and the F1 of both."""

    name: str
    n: int
    recall: float
    precision: float
    f1: float


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A sample that was misclassified; `probability` is that of the class it was taken for."""

    index: int
    sample: str | None
    label: str
    predicted: str
    probability: float


@dataclasses.dataclass(frozen=True)
class EvaluatedFile:
    """One file or source. `confusion[i][j]` counts samples of class i that were taken for j; None for other tasks."""

    name: str
    path: str
    metrics: Mapping[str, Metric]
    confusion: tuple[tuple[int, ...], ...] | None = None
    classes: tuple[str, ...] = ()
    per_class: tuple[ClassMetrics, ...] = ()
    worst_mistakes: tuple[Mistake, ...] = ()


@dataclasses.dataclass(frozen=True)
class EvaluatePair:
    """The first file against another on the same samples: the metric of a minus that of b, with its paired interval.

    `gained` counts the samples that a has right and b wrong, `lost` the reverse; `p_value` is McNemar's. `agreement` is
    the part of the predictions that are the same. None where the task has no such thing.
    """

    a: str
    b: str
    metric: str
    difference: float
    low: float
    high: float
    agreement: float | None = None
    gained: int | None = None
    lost: int | None = None
    p_value: float | None = None


@dataclasses.dataclass(frozen=True)
class MetricGate:
    """A gate: failed where the whole interval lies on the wrong side of the limit, passed on the right one.

    `n_to_decide` is how many samples like these would decide, where it is undecided; None where no number would.
    """

    name: str
    limit: float
    value: float
    low: float
    high: float
    verdict: Literal["passed", "failed", "undecided"]
    n_to_decide: int | None = None


@dataclasses.dataclass(frozen=True, repr=False)
class EvaluateReport(Shown):
    """What `bnfold evaluate` found."""

    data: DataFacts
    task: str
    files: tuple[EvaluatedFile, ...]
    pairs: tuple[EvaluatePair, ...] = ()
    gates: tuple[MetricGate, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    schema: ClassVar[str] = "bnfold.evaluate/1"
    json_constants: ClassVar[tuple[str, ...]] = ("schema",)

    def in_a_line(self) -> str:
        """The first metric of each file."""
        firsts = ((file.name, *next(iter(file.metrics.items()))) for file in self.files if file.metrics)
        found = "; ".join(f"{name}: {metric} {own.value:.4g}" for name, metric, own in firsts)
        return f"{found or 'nothing'} on {self.data.spec}"


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a file says of one image.

    `classes` are pairs of a name and a probability, the likeliest first; `boxes` hold class, score, left, top, right,
    bottom in pixels of the image; `picture` is the file that shows the mask or the boxes.
    """

    image: str
    classes: tuple[tuple[str, float], ...] = ()
    boxes: tuple[tuple[str, float, float, float, float, float], ...] = ()
    areas: Mapping[str, float] = dataclasses.field(default_factory=dict)
    picture: Path | None = None
