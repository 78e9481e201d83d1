"""The cells of the drawing of a network: what an operator was and is, what became of it, what it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from bnfold.report.elements import Child, element
from bnfold.report.network_facts import LayerFacts, Time
from bnfold.report.network_tree import Row, operator_name
from bnfold.report.tables import number

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["LEGEND", "Cells"]

Facts = Mapping[str, Any]
LEGEND = (
    ("absorbed", "its scale and shift are in the weights of others"),
    ("merged", "it went with the parallel branches it stood in, which are one operator"),
    ("removed", "nobody reads what it gives, or its channels were constant"),
    ("kept", "it is still there, for the reason that it tells"),
)


class Cells:
    """Makes the cells of rows; numbers what needs a name on the page, and tells each time once."""

    def __init__(self, facts: LayerFacts) -> None:
        self._facts = facts
        self._longest = max((time.ms or 0.0 for time in facts.all_times()), default=0.0)
        self._told: set[str] = set()
        self._n_tips = 0

    def operator(self, row: Row, hidden: Child) -> Iterator[Child]:
        """An operator: its layer, what it was, what it is, its time."""
        yield element("b", row.label, hidden)
        before = None if row.before is None else operator_name(row.before)
        yield _cell("before", before or ("BatchNorm" if row.entry is not None else None))
        yield _cell("after", None if row.after is None else operator_name(row.after), *self._marks(row))
        found = self._facts.time_of(row) if row.after is not None else None
        if found is not None and found[0] not in self._told:
            self._told.add(found[0])
            yield self._time(found[1])

    def _marks(self, row: Row) -> Iterator[Child]:
        if row.entry is not None:
            yield from self._mark(str(row.entry["outcome"]), _fate(row.entry))
        elif row.after is None and (became := self._facts.merged_into.get(row.path)) is not None:
            yield from self._mark("merged", f"one of the branches that became one operator of {became}")
        elif row.after is None:
            yield element("span", "gone", class_="gone")
        merged = self._facts.merged.get(row.path)
        if merged and row.after is not None and (row.before is None or row.before["op"] != row.after["op"]):
            yield from self._mark("new", f"merged from {', '.join(merged)}", "merged")
        channels = self._facts.channels.get(row.path)
        if channels and row.after is not None:
            text = f"{channels['from']} to {channels['to']} channels"
            yield from self._mark("removed", "the others were constant: dead channels", text)
        layer = self._facts.layer_of(row.after)
        if layer is not None:
            kind = "float" if layer["precision"] == "float32" else "low"
            yield from self._mark(kind, layer.get("sentence"), str(layer["precision"]))

    def _mark(self, kind: str, told: str | None, text: str | None = None) -> Iterator[Child]:
        """A word that tells more."""
        if not told:
            yield element("span", text or kind, class_=f"mark {kind}")
            return
        self._n_tips += 1
        name = f"tip{self._n_tips}"
        yield element(
            "button", text or kind, class_=f"mark {kind}", type="button", popovertarget=name, aria_describedby=name
        )
        yield element("span", told, class_="tip", id=name, popover="auto")

    def module(self, row: Row, hidden: Child) -> Iterator[Child]:
        """A module: how many operators it had and has, and what became of its BatchNorms."""
        rows = list(row.operators())
        yield element("b", row.label, hidden)
        yield _cell("before", _nodes(sum(inner.before is not None for inner in rows)))
        counts = Counter(str(inner.entry["outcome"]) for inner in rows if inner.entry is not None)
        kinds = Counter(
            layer["precision"] for inner in rows if (layer := self._facts.layer_of(inner.after)) is not None
        )
        marks = [element("span", f"{n} {name}", class_=f"mark {name}") for name, _ in LEGEND if (n := counts[name])]
        marks += [
            element("span", f"{n} {kind}", class_=f"mark {'float' if kind == 'float32' else 'low'}")
            for kind, n in sorted(kinds.items())
        ]
        yield _cell("after", _nodes(sum(inner.after is not None for inner in rows)), *marks)
        total = self._facts.sum_of(inner for inner in rows if inner.after is not None)
        if total is not None:
            yield self._time(total, whole=True)

    def _time(self, time: Time, *, whole: bool = False) -> Element | None:
        """Milliseconds, those of the other file in brackets; of an operator with a bar, which the longest fills."""
        if time.ms is None:
            return None
        other = "" if time.against_ms is None else f" ({number(time.against_ms, 3)})"
        share = 0.0 if whole or not self._longest else time.ms / self._longest
        style = {"style": f"--w:{share:.0%}"} if share >= 0.01 else {}
        return element("span", f"{number(time.ms, 3)}{other}", class_="time", **style)


def _nodes(count: int) -> str:
    return f"{count:,} node{'' if count == 1 else 's'}"


def _fate(entry: Facts) -> str | None:
    """Why a BatchNorm stays, or what took it."""
    if entry["outcome"] == "kept":
        return str(entry["reason"])
    return f"into {', '.join(entry['into'])}" if entry["into"] else None


def _cell(side: str, text: str | None, *marks: Child) -> Element:
    """A cell; who hears the page is told which of the two graphs it is about."""
    kind = side if text else f"{side} {'only' if marks else 'none'}"
    return element(
        "span", element("span", f" {side}: ", class_="vh"), text or ("" if marks else "none"), *marks, class_=kind
    )
