"""What a file that was made is worth: its time against that of the file one would otherwise have."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from bnfold.records.benchmark import Leaning, RatioVerdict

__all__ = ["LayerTime", "SlowerPart", "Timing"]


@dataclasses.dataclass(frozen=True)
class SlowerPart:
    """An operator, or a layer of the network, that takes longer than in the other file; milliseconds of one run."""

    name: str
    kind: Literal["operator", "layer"]
    ms: float
    against_ms: float


@dataclasses.dataclass(frozen=True)
class LayerTime:
    """Milliseconds of a layer in one run of the file, and of the other file, by profile; None where it has none."""

    name: str
    ms: float | None
    against_ms: float | None


@dataclasses.dataclass(frozen=True)
class Timing:
    """time(file) / time(`against`) from interleaved runs, as in `BenchRatio`; medians in milliseconds.

    `against` is "plain", what `torch.onnx.export` makes by default, or "source", the `.onnx` file that was folded.
    `limit` is the ratio that was allowed, None where none was given. `slower` names what lost, those that lost most
    first, where the verdict is `slower`. `note`: why no winner is named, or that the machine was noisy. `layers` is
    empty where no profile was asked for.
    """

    against: Literal["plain", "source"]
    ratio: float
    low: float
    high: float
    verdict: RatioVerdict
    leaning: Leaning | None = None
    note: str | None = None
    provider: str = "CPUExecutionProvider"
    batch: int = 1
    threads: int | None = None
    median_ms: float | None = None
    against_ms: float | None = None
    limit: float | None = None
    slower: tuple[SlowerPart, ...] = ()
    layers: tuple[LayerTime, ...] = ()
    json_properties: ClassVar[tuple[str, ...]] = ("failed",)

    @property
    def failed(self) -> bool:
        """Whether the whole interval lies above the limit; what is undecided does not fail."""
        return self.limit is not None and self.verdict == "slower" and self.low > self.limit
