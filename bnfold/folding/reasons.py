"""Why a site stays, in terms of the user's own layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bnfold.folding.classes import Classes
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
        if sign:
            held = self._cause(pins, labels, x, {}) or self._cause(pins, labels, y, {})
            cause = held or self._sides(self._units.scale_pins, labels, x, y, before)
            return f"scale of channel {channel} is negative, and its sign is held by {cause}"
        if labels[x] == labels[y] != 0:
            return f"scale of channel {channel}: input and output share one scale, a cycle around it"
        return f"scale {self._sides(pins, labels, x, y, before)}"

    def offset(self, site: Site, channel: int) -> str:
        """Why the offset of a channel cannot move."""
        sides = self._sides(
            self._units.offset_pins,
            self._classes.offset,
            site.x_ids[channel],
            site.y_ids[channel],
            self._site_of_offset,
        )
        return f"offset {sides}"

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

    def _sides(self, pins: Sequence[Pin], labels: Ids, x: int, y: int, before: dict[int, Site]) -> str:
        first, second = self._cause(pins, labels, x, before), self._cause(pins, labels, y, before)
        if first and second and first != second:
            return f"pinned by {first} on its input and by {second} on its output"
        cause = first or second
        return f"pinned by {cause}" if cause else "caught in a cycle of operators that share their units"

    def _cause(self, pins: Sequence[Pin], labels: Ids, element: int, before: dict[int, Site]) -> str | None:
        """The operator that fixes this very element, else one that fixes its class, else an accepted site."""
        if element == 0:
            return "a value without free units (graph input or an operator without a rule)"
        for pin in pins:
            if np.any(pin.ids == element):
                return pin.why
        label = labels[element]
        for pin in pins:
            if np.any(labels[pin.ids] == label) and np.any(pin.ids):
                return pin.why
        site = before.get(int(label))
        return None if site is None else f"the units chosen for `{layer_name(site.node)}`"

    def _uses(self, element: int) -> str:
        c, label = self._classes, self._classes.scale[element]
        if label == 0:
            return "is pinned"
        if c.other_uses[label]:
            return "is read by operators that are not linear"
        return "has padded, several or no linear readers"
