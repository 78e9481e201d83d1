"""Merge the ids that hard relations make equal into classes, and note what stands on each class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from bnfold.folding.units import Ids, Pin, Units
from bnfold.graph import operators as op
from bnfold.graph.operators import kind_of

__all__ = ["Classes", "border_pins", "classify"]


@dataclass(frozen=True, kw_only=True)
class Classes:
    """Class of each id, for scales and for offsets; class 0 is pinned. Counts are per scale class.

    `other_uses`: reads by operators that restrict units; `sign_uses`: those of them that keep the sign, f(a x) = a f(x)
    for a > 0, and so f(0) = 0 and f(t) = t of a constant t > 0; `borders`: pins of the offset by any other operator,
    such as zero padding; `reads`: by linear operators; `site_reads`: by sites that scale; `shifts`: by constant Adds,
    whose output is of the same class; `writes`: by operators that can write any constant; `size`: ids; `unwritten`:
    those ids that no constant Add and none of these operators writes.
    `offset_cost`: how much an offset is worth avoiding; `private`: only one relation and one reader know it;
    `related`: another offset follows from it, whoever else reads that one.
    """

    scale: Ids
    offset: Ids
    positive: set[int]
    other_uses: Ids
    sign_uses: Ids
    borders: Ids
    reads: Ids
    site_reads: Ids
    shifts: Ids
    writes: Ids
    size: Ids
    unwritten: Ids
    offset_cost: list[float]
    private: list[bool]
    related: NDArray[np.bool_]


def classify(units: Units) -> Classes:
    """The classes of a graph's ids under the hard relations."""
    scale = _components(units.n_ids, units.equal_scales, units.scale_pins)
    offset = _components(units.n_ids, units.equal_offsets, units.offset_pins)
    count = int(scale.max()) + 1

    def tally(groups: Iterable[Ids]) -> Ids:
        """How many groups each class is met in: in sorted (group, class) pairs, the first of each run counts."""
        arrays = [np.zeros(0, np.int64), *groups]
        owner = np.repeat(np.arange(len(arrays)), [ids.size for ids in arrays])
        pairs = np.sort(owner * count + scale[np.concatenate(arrays)])
        return np.bincount(pairs[np.diff(pairs, prepend=-1) != 0] % count, minlength=count)

    size = np.bincount(scale, minlength=count)
    written = np.unique(np.concatenate([*(ids for ids, _ in units.writers), *units.shifts, np.zeros(0, np.int64)]))

    homogeneous = _homogeneous(units)
    readers = [*units.other_uses, *(ids for ids, _ in units.readers), *(site.x_ids for site in units.sites)]
    return Classes(
        scale=scale,
        offset=offset,
        positive={int(c) for pin in units.positive for c in np.unique(scale[pin.ids])},
        other_uses=tally(units.other_uses),
        sign_uses=tally(pin.ids for pin in units.positive if pin.node in homogeneous),
        borders=tally(pin.ids for pin in border_pins(units)),
        reads=tally(ids for ids, _ in units.readers),
        site_reads=tally(site.x_ids for site in units.sites if kind_of(site.node) not in (op.Add, op.Sub)),
        shifts=tally(units.shifts),
        writes=tally(ids for ids, _ in units.writers),
        size=size,
        unwritten=size - np.bincount(scale[written], minlength=count),
        offset_cost=_offset_cost(units, offset),
        private=_private(units, offset, readers),
        related=_related(units, offset),
    )


def border_pins(units: Units) -> list[Pin]:
    """What holds offsets at 0 and does not keep the sign of its input: zero padding, and all that takes no units."""
    homogeneous = _homogeneous(units)
    return [pin for pin in units.offset_pins if pin.node not in homogeneous]


def _homogeneous(units: Units) -> set[ir.Node]:
    """The operators with f(a x) = a f(x) for a > 0; Max with a constant keeps the sign, but not a 0."""
    return {pin.node for pin in units.positive if pin.node is not None and kind_of(pin.node) != op.Max}


def _components(n_ids: int, pairs: Sequence[tuple[Ids, Ids]], pins: Sequence[Pin]) -> Ids:
    """Connected components of the ids, the one of id 0 numbered 0."""
    left = np.concatenate([*(a for a, _ in pairs), *(pin.ids for pin in pins), np.zeros(0, np.int64)])
    right = np.concatenate([*(b for _, b in pairs), *(np.zeros_like(pin.ids) for pin in pins), np.zeros(0, np.int64)])
    graph = coo_matrix((np.ones(left.size, np.int8), (left, right)), shape=(n_ids, n_ids))
    labels = connected_components(graph, directed=False)[1].astype(np.int64)
    first = labels[0]
    return np.where(labels == first, 0, np.where(labels == 0, first, labels))


def _offset_cost(units: Units, offset: Ids) -> list[float]:
    """Twice the sums an offset takes part in, and one less where a bias or a constant Add writes it."""
    cost = np.zeros(int(offset.max()) + 1)
    for relation in units.offset_relations:
        for ids in relation.ids:
            cost[np.unique(offset[ids])] += 2
    for ids in [*(ids for ids, _ in units.writers), *units.shifts]:
        cost[np.unique(offset[ids])] -= 1
    return [float(c) for c in cost]


def _private(units: Units, offset: Ids, readers: Sequence[Ids]) -> list[bool]:
    """Whether each class of offsets stands in one relation at most, and has one reader at most."""
    count = int(offset.max()) + 1
    terms = [ids for relation in units.offset_relations for ids in relation.ids]
    rows = [*terms, *(ids for site in units.sites for ids in (site.x_ids, site.y_ids))]
    n_rows = np.bincount(offset[np.concatenate([*rows, np.zeros(0, np.int64)])], minlength=count)
    read = [np.unique(offset[ids]) for ids in readers]
    n_readers = np.bincount(np.concatenate([*read, np.zeros(0, np.int64)]), minlength=count)
    return [bool(p) for p in (n_rows <= 1) & (n_readers <= 1)]


def _related(units: Units, offset: Ids) -> NDArray[np.bool_]:
    """Whether each class of offsets stands in a relation that holds whatever is chosen."""
    related = np.zeros(int(offset.max()) + 1, bool)
    for relation in units.offset_relations:
        for ids in relation.ids:
            related[offset[ids]] = True
    return related
