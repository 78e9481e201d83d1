"""What `bnfold recalibrate` is asked for: the data to measure on, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnfold.errors import InputRefused

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["PRIOR", "Wish", "wish_of"]

PRIOR = 16.0


@dataclass(frozen=True)
class Wish:
    """What the statistics shall be measured on, and how."""

    data: str | None
    inputs: Path | None
    layerwise: bool
    adapt: bool
    prior: float
    n_samples: int
    batch_size: int | None
    download: bool

    @property
    def mode(self) -> str:
        if self.adapt:
            return "adapt"
        return "layerwise" if self.layerwise else "pooled"


def wish_of(
    data: str | None,
    inputs: Path | None,
    *,
    layerwise: bool,
    adapt: bool,
    prior: float | None,
    n_samples: int,
    batch_size: int | None,
    download: bool,
) -> Wish:
    """Check that the options agree with each other."""
    if data is not None and inputs is not None:
        raise InputRefused("--data and --inputs exclude each other", remedy="leave one of them out")
    if adapt and data is None and inputs is None:
        raise InputRefused(
            "an adaptation needs data of its target", expected="--data NAME or --inputs FILE.npz|FOLDER",
            remedy="name it, or leave --adapt out to measure on the run's own data",
        )  # fmt: skip
    if prior is not None and not (adapt and 0 <= prior < float("inf")):
        raise InputRefused(
            "--prior is the weight of the old statistics in an adaptation", found=f"{prior:g}",
            expected="a number of at least 0, with --adapt", remedy="add --adapt, or leave --prior out",
        )  # fmt: skip
    if n_samples < 2:
        raise InputRefused("statistics need at least two samples", found=str(n_samples), remedy="raise --samples")
    weight = PRIOR if prior is None else prior
    return Wish(data, inputs, layerwise or adapt, adapt, weight, n_samples, batch_size, download)
