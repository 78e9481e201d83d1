"""Why a site stays, in terms of the user's own layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from bnfold.folding.classes import Classes
from bnfold.folding.relations import RULES
from bnfold.folding.units import Ids, Pin, Site, Units
from bnfold.graph.layers import layer_name

__all__ = ["Reasons"]


class Reasons:
    """Looks up what fixes a class: an operator, or a site that was accepted before."""

    def __init__(self, units: Units, classes: Classes) -> None:
        self._units = units
        self._classes = classes
        self._site_of_scale: dict[int, Site] = {}
        self._site_of_offset: dict[int, Site] = {}

    def accepted(self, site: Site) -> None:
        """Remember that a site vanishes: it fixes the units around it from now on."""
        for ids in (site.x_ids, site.y_ids):
            for k in np.unique(self._classes.scale[ids]).tolist():
                self._site_of_scale.setdefault(k, site)
            for k in np.unique(self._classes.offset[ids]).tolist():
                self._site_of_offset.setdefault(k, site)

    def scale(self, site: Site, channel: int, *, sign: bool) -> str:
        """Why the scale of a channel cannot move."""
        labels, before = self._classes.scale, self._site_of_scale
        pins = self._units.positive if sign else self._units.scale_pins
        x, y = site.x_ids[channel], site.y_ids[channel]
        held = self._fixed_by(pins, labels, x) or self._fixed_by(pins, labels, y) if sign else None
        if held is not None:
            return f"scale of channel {channel} is negative, and its sign is held by {held}"
        if labels[x] == labels[y] != 0:
            return f"scale of channel {channel}: input and output share one scale, a cycle around it"
        return f"scale {self._sides(self._units.scale_pins, labels, site, channel, before)}"

    def offset(self, site: Site, channel: int) -> str:
        """Why the offset of a channel cannot move."""
        pins, labels = self._units.offset_pins, self._classes.offset
        return f"offset {self._sides(pins, labels, site, channel, self._site_of_offset)}"

    def dead(self, site: Site, channel: int) -> str:
        """Why a channel of scale 0 cannot become a constant."""
        return (
            f"channel {channel} has scale 0: its input {self._uses(site.x_ids[channel])} besides this BatchNorm, "
            f"and its output {self._uses(site.y_ids[channel])}"
        )

    def conditioning(self, site: Site, channel: int, growth: float) -> str:
        """Why an offset is too large to be stored."""
        return (
            f"conditioning: channel {channel} has gamma so small that its offset would be stored at {growth:.3g} times "
            f"the magnitude of `{site.x.name}`, which others read"
        )

    def _sides(self, pins: Sequence[Pin], labels: Ids, site: Site, channel: int, before: dict[int, Site]) -> str:
        x, y = site.x_ids[channel], site.y_ids[channel]
        first = _origin(site.x, self._units) if x == 0 else self._cause(pins, labels, x, before)
        second = self._cause(pins, labels, y, before)
        if first and second and first != second:
            return f"pinned by {first} on its input and by {second} on its output"
        cause = first or second
        return f"pinned by {cause}" if cause else "caught in a cycle of operators that share their units"

    def _cause(self, pins: Sequence[Pin], labels: Ids, element: int, before: dict[int, Site]) -> str | None:
        """The operator that fixes an element, else an accepted site."""
        site = before.get(int(labels[element]))
        chosen = None if site is None else f"the units chosen for `{layer_name(site.node)}`"
        return self._fixed_by(pins, labels, element) or chosen

    def _fixed_by(self, pins: Sequence[Pin], labels: Ids, element: int) -> str | None:
        """The operator that fixes this very element, else one that fixes its class."""
        for pin in pins:
            if np.any(pin.ids == element):
                return pin.why
        for pin in pins:
            if np.any(labels[pin.ids] == labels[element]) and np.any(pin.ids):
                return pin.why
        return None

    def _uses(self, element: int) -> str:
        c, label = self._classes, self._classes.scale[element]
        if label == 0:
            return "is pinned"
        if c.other_uses[label]:
            return "is read by operators that are not linear"
        return "has padded, several or no linear readers"


def _origin(value: ir.Value, units: Units) -> str:
    """What a value of pinned units comes from: a graph input or an operator, through those that only move elements."""
    node = value.producer()
    while node is not None and value not in units.unruled and len(_moved_by(node)) == 1:
        (value,) = _moved_by(node)
        node = value.producer()
    if node is None:
        return f"graph input `{value.name}`"
    return units.unruled.get(value, f"{node.op_type} `{layer_name(node)}`")


def _moved_by(node: ir.Node) -> list[ir.Value]:
    """What an operator that only moves elements takes them from; nothing for any other operator."""
    rule = RULES.get(node.op_type)
    if rule is None or rule.kind != "carry":
        return []
    data = node.inputs if node.op_type == "Concat" else node.inputs[:1]
    return [value for value in data if value is not None]
