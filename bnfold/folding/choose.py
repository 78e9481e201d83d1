"""Choose the units: which sites vanish, and what the units are then.

The hard relations hold whatever is chosen. Each site is one more relation. They are taken by the work they save,
BatchNorms first; one is kept if its scales and offsets, of all channels together, contradict nothing fixed so far.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from bnfold.folding.classes import Classes, classify
from bnfold.folding.gauge import Gauge
from bnfold.folding.holders import Holders
from bnfold.folding.offsets import OffsetConflict, Offsets, OffsetsEntangled, Row
from bnfold.folding.scales import PINNED, ScaleConflict, Scales
from bnfold.folding.units import Ids, Site, Units
from bnfold.graph import operators as op
from bnfold.graph.operators import kind_of
from bnfold.records.causes import Growth, Stays, ZeroScale

__all__ = ["Choice", "choose"]

# A stream stored at 2**5 times the magnitude it had loses 5 of float32's 24 bits where the offset is taken off again.
_MAX_STREAM_GROWTH = 2.0**5


@dataclass(frozen=True)
class Choice:
    """The units, the sites that vanish under them, and why each other site stays."""

    gauge: Gauge
    vanished: tuple[Site, ...]
    refused: tuple[tuple[Site, Stays], ...]


@dataclass
class _Dead:
    """Channels with scale 0, by scale class: written constants (site, channel) and read constants t."""

    written: dict[int, tuple[Site, int]] = field(default_factory=dict)
    read: dict[int, float] = field(default_factory=dict)


class _Contradiction(Exception):  # noqa: N818 - an outcome that the caller expects, not an error
    def __init__(self, stays: Stays) -> None:
        super().__init__(stays)
        self.stays = stays


def choose(units: Units, banned: Mapping[ir.Node, Stays] | None = None) -> Choice:
    """Decide every site, greedily, each with its scales and offsets in one step; `banned` ones stay for these reasons.

    A later site may fix an offset that an earlier one left at 0, and make it too large: then that one stays, and all
    the others are decided again.
    """
    classes = classify(units)
    stay = dict(banned or {})
    while True:
        chooser = _Chooser(units, classes)
        choice = chooser.run(stay)
        late = {site.node: stays for site in choice.vanished if (stays := chooser.ill_conditioned(site))}
        if not late:
            return choice
        stay |= late


class _Chooser:
    def __init__(self, units: Units, classes: Classes) -> None:
        self.units = units
        self.classes = classes
        n_scales = int(classes.scale.max()) + 1
        self.scales = Scales(n_scales, classes.positive)
        self.offsets = Offsets(classes.offset_cost, classes.private)
        self.dead = _Dead()
        self.holders = Holders(units, classes)
        for relation in units.offset_relations:
            self._hard_offsets(relation.ids, relation.coefficients)

    def _hard_offsets(self, ids: tuple[np.ndarray, ...], coefficients: tuple[np.ndarray, ...]) -> None:
        with contextlib.suppress(OffsetsEntangled):
            self.offsets.relate_apart(self.classes.offset[np.stack(ids)], np.stack(coefficients), np.zeros(ids[0].size))
            return
        rows = {
            tuple((int(self.classes.offset[i[k]]), float(c[k])) for i, c in zip(ids, coefficients, strict=True))
            for k in range(ids[0].size)
        }
        for terms in sorted(rows):
            row: Row = {}
            for c, v in terms:
                row[c] = row.get(c, 0.0) + v
            self.offsets.relate(row, 0.0)  # homogeneous: never a contradiction

    def run(self, banned: Mapping[ir.Node, Stays]) -> Choice:
        """Decide every site; `banned` ones stay for the reason given."""
        vanished, refused = [], []
        for site in sorted(self.units.sites, key=lambda s: (s.deviation is None, -s.saved)):
            stays = banned.get(site.node) or self._try(site)
            if stays is None:
                vanished.append(site)
                self.holders.accepted(site)
            else:
                refused.append((site, stays))
        return Choice(self._gauge(), tuple(vanished), tuple(refused))

    def _try(self, site: Site) -> Stays | None:
        """Accept a site and return None, or leave everything as it was and return why it stays."""
        scale_mark, offset_mark = self.scales.mark(), self.offsets.mark()
        written, read = dict(self.dead.written), dict(self.dead.read)
        try:
            self._accept(site)
        except _Contradiction as contradiction:
            self.scales.rewind(scale_mark)
            self.offsets.rewind(offset_mark)
            self.dead = _Dead(written, read)
            return contradiction.stays
        return None

    def _accept(self, site: Site) -> None:
        x_scale, y_scale = self.classes.scale[site.x_ids], self.classes.scale[site.y_ids]
        alive = np.flatnonzero(site.scale)
        tied = alive[np.isin(x_scale[alive], [*self.dead.written]) | np.isin(y_scale[alive], [*self.dead.read])]
        free = alive[alive < tied[0]] if tied.size else alive
        try:
            self.scales.relate(x_scale[free], y_scale[free], site.scale[free])
        except ScaleConflict as conflict:
            raise _Contradiction(self.holders.scale(site, int(free[conflict.position]), sign=conflict.sign)) from None
        if tied.size:
            raise _Contradiction(ZeroScale(int(tied[0])))
        if alive.size < site.scale.size:
            self._accept_dead(site, x_scale.tolist(), y_scale.tolist())
        conflicting = self._relate_offsets(site, alive)
        if conflicting is not None:
            raise _Contradiction(self.holders.offset(site, conflicting))
        growth = self.ill_conditioned(site)
        if growth is not None:
            raise _Contradiction(growth)

    def _relate_offsets(self, site: Site, alive: Ids) -> int | None:
        """Demand s d_x = d_y + t of the channels `alive`; the first that contradicts what is fixed, else None."""
        classes = self.classes.offset[np.stack([site.x_ids[alive], site.y_ids[alive]])]
        coefficients, shifts = np.stack([site.scale[alive], -np.ones(alive.size)]), site.shift[alive]
        with contextlib.suppress(OffsetsEntangled):
            position = self.offsets.relate_apart(classes, coefficients, shifts)
            return None if position is None else int(alive[position])
        columns = zip(alive.tolist(), *classes.tolist(), coefficients[0].tolist(), shifts.tolist(), strict=True)
        for k, x, y, factor, shift in columns:
            row: Row = {x: factor}
            row[y] = row.get(y, 0.0) - 1.0
            try:
                self.offsets.relate({c: v for c, v in row.items() if v}, shift)
            except OffsetConflict:
                return int(k)
        return None

    def _accept_dead(self, site: Site, x_scale: list[int], y_scale: list[int]) -> None:
        """Channels with s = 0: y = t whatever x is. Either x is written as that constant, or y's readers take it.

        A ReLU or MaxPool on the way to the site passes on a 0, which is the constant where d_y = -t. One behind the
        site makes of t what y's readers take; zero padding lets them take nothing but 0.
        """
        x_count = Counter(x_scale)
        c = self.classes
        for k in np.flatnonzero(site.scale == 0).tolist():
            x, y, t = x_scale[k], y_scale[k], float(site.shift[k])
            alone = c.reads[x] == c.unwritten[x] == 0 and c.site_reads[x] == c.writes[x] == x_count[x] == 1
            passed_on = c.other_uses[x] == c.sign_uses[x]
            if x != PINNED and alone and passed_on and (c.sign_uses[x] == 0 or self._offset(site, k, -t)):
                self.dead.written[x] = (site, k)
                continue
            seen = _behind_relu(site, t) if c.sign_uses[y] else t
            linear = c.other_uses[y] == c.sign_uses[y] and c.site_reads[y] == c.shifts[y] == 0
            if y != PINNED and linear and seen is not None and (seen == 0 or not c.borders[y]) and c.size[y] == 1:
                self.dead.read[y] = seen
                continue
            raise _Contradiction(self.holders.dead(site, k))

    def _offset(self, site: Site, channel: int, value: float) -> bool:
        """Demand d_y = value of a channel; whether it can be."""
        try:
            self.offsets.relate({int(self.classes.offset[site.y_ids[channel]]): 1.0}, value)
        except OffsetConflict:
            return False
        return True

    def ill_conditioned(self, site: Site) -> Growth | None:
        """Why an offset dwarfs what is stored where others read it too, and must take it off again; else None."""
        if site.mean is None or site.deviation is None:
            return None
        c = self.classes
        x = c.scale[site.x_ids]
        shared = (c.other_uses[x] + c.reads[x] + c.site_reads[x] > 1) | c.related[c.offset[site.x_ids]]
        shared &= site.scale != 0
        channels = np.flatnonzero(shared)
        mean, deviation = site.mean[channels], site.deviation[channels]
        before = np.abs(mean) + deviation
        after = np.abs(mean + self.offsets.values(c.offset[site.x_ids[channels]])) + deviation
        grown = np.flatnonzero(after > _MAX_STREAM_GROWTH * before)
        if not grown.size:
            return None
        first = grown[0]
        return Growth(int(channels[first]), site.x.name or "", float(after[first] / before[first]))

    def _gauge(self) -> Gauge:
        c = self.classes
        scale = self.scales.values()[c.scale]
        offset = self.offsets.values(np.arange(int(c.offset.max()) + 1))[c.offset]
        constant, inverse = scale * offset, 1 / scale
        members = _members(c.scale, {*self.dead.written, *self.dead.read})
        for k, t in self.dead.read.items():
            inverse[members[k]], offset[members[k]] = 0.0, -t
        for k, (site, channel) in self.dead.written.items():
            x, y = site.x_ids[channel], site.y_ids[channel]
            value = scale[y] * (site.shift[channel] + offset[y])
            # Constant Adds between the writer and the site are of the same class: the last one writes the constant.
            scale[members[k]] = 0.0
            constant[members[k]] = np.where(c.offset[members[k]] == c.offset[x], value, 0.0)
        return Gauge(self.units, scale, offset, constant, inverse)


def _behind_relu(site: Site, t: float) -> float | None:
    """What operators that keep the sign make of a site's constant t; None where that differs from reader to reader."""
    if t >= 0:
        return t
    return 0.0 if all(kind_of(node) in (op.Relu, op.Clip) for node, _ in site.node.outputs[0].uses()) else None


def _members(labels: np.ndarray, wanted: set[int]) -> dict[int, np.ndarray]:
    """The ids of each wanted class."""
    if not wanted:
        return {}
    order = np.argsort(labels, kind="stable")
    keys = np.array(sorted(wanted))
    starts = np.searchsorted(labels[order], keys, side="left")
    ends = np.searchsorted(labels[order], keys, side="right")
    return {int(k): order[a:b] for k, a, b in zip(keys, starts, ends, strict=True)}
