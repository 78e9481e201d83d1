"""What a fold says of its own work, so that another program can check it.

Every value of the folded graph, of each of its graphs: which values of the source it stands for, which channels are
left, and its units. Every parameter that the fold computed: its float64 digits, of which the file holds as many as its
type has.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Certificate", "CertificateFacts", "Counterpart", "Exact"]

# What is stored -> the parameter in float64, of the same shape.
Exact = Callable[[NDArray[Any]], NDArray[np.float64]]


@dataclasses.dataclass(frozen=True, eq=False)
class Counterpart:
    """A value v of the source, and how the folded graph stores it: `v' = a (v + d)`, on the channels that are left.

    Attributes:
        source: the name of v.
        scale: a, of the rank of v' and broadcast to its shape; NaN where v' says nothing of v. None: 1 everywhere.
        offset: d, the same; None: 0 everywhere.
        kept: the positions of v that are left, by axis; an axis that is not named is whole.
    """

    source: str
    scale: NDArray[np.float64] | None = None
    offset: NDArray[np.float64] | None = None
    kept: Mapping[int, NDArray[np.int64]] = dataclasses.field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether v' is v: nothing removed, in the units of the source."""
        return self.scale is None and self.offset is None and not self.kept


@dataclasses.dataclass(frozen=True, eq=False)
class Certificate:
    """Values and parameters of a folded model, by graph and by name.

    A graph is named by where it stands: "" is the main one, `NAME.ATTRIBUTE` (and `NAME.ATTRIBUTE/...` inside it) the
    body that the node which writes NAME holds; of a list of bodies, ATTRIBUTE is followed by the position.

    Attributes:
        values: the counterparts of each value, by graph and name.
        parameters: float64 digits of the parameters that the fold computed, by graph and name of the initializer.
    """

    values: Mapping[str, Mapping[str, tuple[Counterpart, ...]]]
    parameters: Mapping[str, Mapping[str, Exact]]


@dataclasses.dataclass(frozen=True)
class CertificateFacts:
    """What the check of a certificate has found.

    A region is what computes one value of the file, and its counterpart in the source, from values that are proven
    already; `largest_region` counts the operators of the source in one, and `large_regions` names the layers of those
    with more than 8. `unexcited_channels` were seen on one side of an activation inside a region only. `largest_error`
    is relative to the largest magnitude of its channel, `parameters_max_ulps` the largest difference between a
    parameter as it is stored and its float64 digits, in units in the last place (ULP).
    """

    regions: int
    certified: int
    largest_region: int
    unexcited_channels: int
    largest_error: float
    parameters_max_ulps: float
    large_regions: tuple[tuple[str, ...], ...] = ()
