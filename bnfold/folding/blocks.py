"""Which dead channels leave: whole blocks of them, as runtimes compute in blocks.

    n_left = min(n, block * ceil(n_live / block))

of the n channels of a group: the channels that occur together in every value, so that each operand of a Concat and each
group of a grouped convolution is a group of its own. One channel less than a block would save 1 / block of the work and
cost the blocked kernels: ONNX Runtime (`nchwc_transformer.cc`) has these for convolutions whose input channels, and for
depthwise ones whose channels, are a multiple of 4; for grouped ones and poolings if they are a multiple of the block,
which is 8 or 16. What is a multiple before stays one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from bnfold.folding.channel_groups import ChannelGroups, Slot
from bnfold.folding.units import Ids
from bnfold.graph.constants import is_only_use, parameter
from bnfold.numerics.affine import Float64

__all__ = ["CHANNEL_BLOCK", "Leaving", "by_channel", "leaving"]

# Channels of one step of ONNX Runtime's widest CPU kernels; a constant of the target, never of the machine that folds.
# Other targets have other ones: `ProviderSpec.channel_block`.
CHANNEL_BLOCK = 16
# What the input channels of a blocked convolution are a multiple of.
_CONVOLUTION = 4

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Leaving:
    """By id: `gone` are the channels that leave, `idle` the dead ones that stay and can be made zeros."""

    gone: Bools
    idle: Bools

    @property
    def dead(self) -> Bools:
        """Both: no reader needs more of them than their constants."""
        return self.gone | self.idle


def leaving(coupled: ChannelGroups, block: int) -> Leaving:
    """Decide it for every id of a graph; of each group a block stays at least."""
    label = _group_of_id(coupled)
    dead = _dead(coupled, label)
    if not dead.any():
        return Leaving(dead[label], dead[label])
    atom = _atoms(coupled, label)
    gone = _surplus(dead, atom, [label[rows] for rows in coupled.groupings], block)
    _keep_multiples(gone, atom, coupled, label, block)
    idle = dead & ~gone & ~_untouchable(coupled, label)
    return Leaving(gone[label], idle[label])


def by_channel(array: Float64, slot: Slot) -> Float64:
    """The parameter of a slot with the channels of all groups along its axis: (g M, C, ...) as (M, g C, ...)."""
    if slot.groups == 1:
        return array
    split = array.reshape(slot.groups, -1, *array.shape[1:])
    return np.moveaxis(split, 0, 1).reshape(split.shape[1], -1, *array.shape[2:])


def _group_of_id(coupled: ChannelGroups) -> Ids:
    """The number of the channel group that each id is part of."""
    pairs = coupled.units.equal_scales
    left, right = (np.concatenate([np.zeros(1, np.int64), *(np.ravel(p[k]) for p in pairs)]) for k in (0, 1))
    n_ids = coupled.units.n_ids
    links = coo_matrix((np.ones(left.size, np.int8), (left, right)), shape=(n_ids, n_ids))
    label: Ids = connected_components(links, directed=False)[1].astype(np.int64)
    return label


def _dead(coupled: ChannelGroups, label: Ids) -> Bools:
    """The channel groups that are read, and that no reader needs."""
    needed, read = np.zeros(label.max() + 1, bool), np.zeros(label.max() + 1, bool)
    needed[label[0]] = True
    for slot in coupled.slots:
        if slot.role == "read":
            read[label[slot.ids]] = True
            needed[label[slot.ids[_needs(slot, coupled.constants[slot.ids])]]] = True
    dead: Bools = read & ~needed
    return dead


def _needs(slot: Slot, constants: Float64) -> Bools:
    """Which channels a reader cannot do without: those with weights, unless a bias can take what they contribute."""
    weight = by_channel(parameter(slot.node, slot.index), slot)
    used = weight.any(axis=tuple(k for k in range(weight.ndim) if k != slot.axis))
    inert = constants == 0 if slot.only_zero else ~np.isnan(constants)
    needs: Bools = used & ~inert
    return needs


def _together(coupled: ChannelGroups) -> Iterator[Ids]:
    """The ids that an operator has in one value, one parameter or one of its groups."""
    yield from coupled.units.ids.values()
    for slot in coupled.slots:
        yield slot.ids
    for rows in coupled.groupings:
        yield from rows


def _atoms(coupled: ChannelGroups, label: Ids) -> Ids:
    """The set of each group: those that occur in the same places, known by the sum of the places' random numbers."""
    random = np.random.default_rng(0)
    marks = np.zeros(label.max() + 1, np.uint64)
    for ids in _together(coupled):
        marks[np.unique(label[ids])] += random.integers(1, 1 << 63, dtype=np.uint64)
    return np.unique(marks, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _surplus(dead: Bools, atom: Ids, groupings: list[Ids], block: int) -> Bools:
    """The dead ones beyond what stays of each set, the last ones first; the groups of one operator keep as many."""
    n, n_live = np.bincount(atom), np.bincount(atom, weights=~dead).astype(np.int64)
    n_left = np.minimum(n, block * np.maximum(1, -(-n_live // block)))
    while True:
        before = n_left.copy()
        for rows in groupings:
            atoms = atom[rows]
            if (atoms == atoms[:, :1]).all() and (n[atoms[:, 0]] == rows.shape[1]).all():
                n_left[atoms[:, 0]] = n_left[atoms[:, 0]].max()
        if (n_left == before).all():
            break
    gone = np.zeros(dead.size, bool)
    for k in np.flatnonzero(n_left < n):
        gone[np.flatnonzero((atom == k) & dead)[n_left[k] - n[k] :]] = True
    return gone


def _keep_multiples(gone: Bools, atom: Ids, coupled: ChannelGroups, label: Ids, block: int) -> None:
    """Let whole groups stay where an operator would get a number of channels that its blocked kernel does not take."""
    wanted = [(label[slot.ids], math.gcd(_CONVOLUTION, block)) for slot in coupled.slots]
    wanted += [(label[ids.ravel()], block) for ids in coupled.pooled]
    equal = [label[rows] for rows in coupled.groupings]
    while True:
        broken = [
            channels
            for channels, multiple in wanted
            if int((~gone[channels]).sum()) % math.gcd(channels.size, multiple) and gone[channels].any()
        ]
        broken += [rows.ravel() for rows in equal if np.ptp((~gone[rows]).sum(axis=1))]
        if not broken:
            return
        for channels in broken:
            gone[np.isin(atom, atom[channels[gone[channels]]])] = False


def _untouchable(coupled: ChannelGroups, label: Ids) -> Bools:
    """What is left as it is: channels of weights that others use too, or of divisors, where a zero is no number."""
    stay = np.zeros(label.max() + 1, bool)
    for ids in coupled.divisors:
        stay[label[ids]] = True
    for slot in coupled.slots:
        weight = slot.node.inputs[slot.index] if slot.index == 1 and slot.role != "elementwise" else None
        if weight is not None and slot.node.graph is not None and not is_only_use(slot.node.graph, weight):
            stay[label[slot.ids]] = True
    return stay
