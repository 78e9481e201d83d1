"""What holds a site that stays, in terms of the user's own layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import onnx_ir as ir

from bnfold.folding.classes import Classes, border_pins
from bnfold.folding.relations import RULES
from bnfold.folding.relations.attention import values_of
from bnfold.folding.units import Ids, Pin, Site, Units, holder
from bnfold.graph import operators as op
from bnfold.graph.constants import operand
from bnfold.graph.operators import Trait, kind_of
from bnfold.records.causes import Cause, Cycle, Held, HeldSign, Holder, ZeroScale

__all__ = ["Holders"]

_Kind = Literal["sign", "scale", "offset", "border"]


class Holders:
    """Looks up what fixes a class: an operator, or a site that was accepted before."""

    def __init__(self, units: Units, classes: Classes) -> None:
        self._units = units
        self._classes = classes
        self._sites: list[Site] = []
        self._site_of_scale = np.full(int(classes.scale.max()) + 1, -1)
        self._site_of_offset = np.full(int(classes.offset.max()) + 1, -1)
        self._pins: dict[_Kind, _FirstPins] = {}

    def accepted(self, site: Site) -> None:
        """Remember that a site vanishes: it fixes the units around it from now on."""
        ids = np.concatenate([site.x_ids, site.y_ids])
        for first, labels in (
            (self._site_of_scale, self._classes.scale[ids]),
            (self._site_of_offset, self._classes.offset[ids]),
        ):
            first[labels[first[labels] < 0]] = len(self._sites)
        self._sites.append(site)

    def scale(self, site: Site, channel: int, *, sign: bool) -> HeldSign | Cycle | Held:
        """Why the scale of a channel cannot move."""
        labels = self._classes.scale
        x, y = site.x_ids[channel], site.y_ids[channel]
        held = self._fixed_by("sign", x) or self._fixed_by("sign", y) if sign else None
        if held is not None:
            return HeldSign(channel, held)
        if labels[x] == labels[y] != 0:
            return Cycle(channel)
        return Held("scale", *self._sides("scale", site, channel))

    def offset(self, site: Site, channel: int) -> Held:
        """Why the offset of a channel cannot move."""
        return Held("offset", *self._sides("offset", site, channel))

    def dead(self, site: Site, channel: int) -> ZeroScale:
        """Why a channel of scale 0 cannot become a constant."""
        x, y = site.x_ids[channel], site.y_ids[channel]
        before = _origin("scale", site, self._units) if x == 0 else self._user(x)
        return ZeroScale(channel, before, self._user(y))

    def _sides(self, kind: Literal["scale", "offset"], site: Site, channel: int) -> tuple[Holder | None, Holder | None]:
        x, y = site.x_ids[channel], site.y_ids[channel]
        before = _origin(kind, site, self._units) if x == 0 else self._holder(kind, x)
        return before, self._holder(kind, y)

    def _holder(self, kind: Literal["scale", "offset"], element: int) -> Holder | None:
        """The operator that fixes an element, else an accepted site."""
        scales = kind == "scale"
        label = (self._classes.scale if scales else self._classes.offset)[element]
        index = int((self._site_of_scale if scales else self._site_of_offset)[label])
        chosen = None if index < 0 else holder(self._sites[index].node, Cause.SHARED)
        return self._fixed_by(kind, element) or chosen

    def _fixed_by(self, kind: _Kind, element: int) -> Holder | None:
        """The operator that fixes this very element, else one that fixes its class."""
        if kind not in self._pins:
            units, scale, offset = self._units, self._classes.scale, self._classes.offset
            pins, labels = {
                "sign": (units.positive, scale),
                "scale": (units.scale_pins, scale),
                "offset": (units.offset_pins, offset),
                "border": (border_pins(units), offset),
            }[kind]
            self._pins[kind] = _FirstPins(pins, labels)
        return self._pins[kind].of(element)

    def _user(self, element: int) -> Holder:
        """What keeps an element from being a constant: its writers and readers must be linear, and one of each."""
        c, label = self._classes, self._classes.scale[element]
        fixed = self._fixed_by("scale" if label == 0 else "border", element)
        return fixed or Holder(Cause.NONLINEAR if c.other_uses[label] else Cause.SHARED)


class _FirstPins:
    """The first pin on each element, and the first on each class of elements."""

    def __init__(self, pins: Sequence[Pin], labels: Ids) -> None:
        self._pins = pins
        self._labels = labels
        ids = np.concatenate([*(pin.ids for pin in pins), np.zeros(0, np.int64)])
        sizes = np.array([pin.ids.size for pin in pins], np.int64)
        index = np.repeat(np.arange(len(pins)), sizes)
        moving = np.repeat(np.array([pin.ids.any() for pin in pins], bool), sizes)
        self._of_element = _firsts(ids, index, labels.size)
        self._of_class = _firsts(labels[ids[moving]], index[moving], int(labels.max()) + 1)

    def of(self, element: int) -> Holder | None:
        index = self._of_element[element]
        if index < 0:
            index = self._of_class[self._labels[element]]
        return None if index < 0 else self._pins[index].holder


def _firsts(keys: Ids, index: Ids, size: int) -> Ids:
    """The lowest index of each key, -1 for none; `index` rises."""
    firsts = np.full(size, -1)
    firsts[keys[::-1]] = index[::-1]  # of several values for one place NumPy keeps the last
    return firsts


def _origin(kind: Literal["scale", "offset"], site: Site, units: Units) -> Holder:
    """Where an input of pinned units has them from: a graph input or an operator, through those that pass them on."""
    value, node = site.x, site.x.producer()
    while node is not None and value not in units.unruled:
        pinned = [source for source in _passed_on(kind, node) if source in units.ids and not units.ids[source].all()]
        if not pinned:
            break
        value = pinned[0]
        node = value.producer()
    if node is None:
        return Holder(Cause.GRAPH_INPUT, value.name or "")
    if node.graph is not site.node.graph:
        return Holder(Cause.CAPTURED, value.name or "")
    own = (pin.holder for pin in units.offset_pins if pin.node is node)
    return units.unruled.get(value) or next(own, holder(node, Cause.NONLINEAR))


def _passed_on(kind: Literal["scale", "offset"], node: ir.Node) -> list[ir.Value]:
    """The values whose scales or offsets an operator's output has, element by element."""
    known, rule = kind_of(node), RULES.get(kind_of(node))
    values = values_of(node) if known == op.MatMul else None
    if values is not None:
        return [operand(node, values)]
    passes = known.has(Trait.MAXIMUM) or (kind == "scale" and known.has(Trait.HOMOGENEOUS))
    if rule is None or not (passes or rule.kind == "carry"):
        return []
    data = node.inputs if known in (op.Concat, op.Max) else node.inputs[:1]
    return [value for value in data if value is not None and value.const_value is None]
