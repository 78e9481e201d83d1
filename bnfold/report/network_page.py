"""The drawing of a network on a page: its modules as a tree, every operator as it was and as it is in the file.

Lines beside the rows lead from what an operator gives to those that read it, on the left before the fold, on the right
after it. Modules open and close by themselves (`details`), what happened to an operator is a button whose text shows on
hover, on focus and when it is pressed (`popover`): no script.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bnfold.report.elements import Child, element
from bnfold.report.network_facts import LayerFacts, Time
from bnfold.report.network_tree import Row, network_tree
from bnfold.report.rails import HEAD_PX, LANE_PX, Rail, rails, sources
from bnfold.report.tables import number

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["network_section"]

Facts = Mapping[str, Any]
ALL_OPEN = 40
"""Rows of a network that is shown with all its modules open."""
MOST_OPENED = 12
"""BatchNorms that stay in a larger network whose modules are open; where there are more, all are closed."""
MOST_LINKS = 24
_OPERATORS = {"BatchNormalization": "BatchNorm"}
_LEGEND = (
    ("absorbed", "its scale and shift are in the weights of others"),
    ("merged", "it went with the parallel branches it stood in, which are one operator"),
    ("removed", "nobody reads what it gives, or its channels were constant"),
    ("kept", "it is still there, for the reason that its mark tells"),
)


def network_section(report: Facts, *, profile: Facts | None = None) -> Element | None:
    """The drawing of a report's network; None where the report has none.

    Args:
        report: the JSON of `fold-export`, `inspect` or `quantize`.
        profile: where the time of the same file goes, by `bench --profile`.
    """
    network = report.get("network")
    if not network:
        return None
    entries = (report.get("ledger") or {}).get("entries") or ()
    tree = network_tree(network, entries)
    drawer = _Drawer(network, LayerFacts(report, profile), tree)
    rows = drawer.rows(tree)
    outcomes = {entry["outcome"] for entry in entries}
    legend = [
        part for name, text in _LEGEND if name in outcomes
        for part in (element("dt", name, class_=f"mark {name}"), element("dd", text))
    ]  # fmt: skip
    return element(
        "section",
        element("h2", "Network"),
        element("p", _how_to_read(drawer), class_="note"),
        element("dl", *legend, class_="legend") if legend else None,
        drawer.links(),
        element("p", f"Inputs: {', '.join(network['before']['inputs']) or 'none'}", class_="note ends"),
        element("div", element("span", "layer"), element("span", "before"), element("span", "after"),
                element("span", "time") if drawer.facts.has_times else None, class_="row heads", aria_hidden="true"),
        rows,
        element("p", f"Outputs: {', '.join(network['after']['outputs']) or 'none'}", class_="note ends"),
        id="network",
        class_="network timed" if drawer.facts.has_times else "network",
    )  # fmt: skip


def _how_to_read(drawer: _Drawer) -> str:
    text = (
        "Every operator in front of the fold and behind it, by module. The lines on the left are the source's graph, "
        "those on the right the file's: they lead from what a row gives to the rows that read it. A mark tells more "
        "when you point at it, move to it, or press it."
    )
    return text + (" Times are milliseconds of one run, by profile." if drawer.facts.has_times else "")


class _Drawer:
    """Draws rows, numbers what needs a name on the page, and remembers what was told."""

    def __init__(self, network: Facts, facts: LayerFacts, tree: Row) -> None:
        self.facts = facts
        operators = list(tree.operators())
        self._opens = len(operators) <= ALL_OPEN
        self._opens_kept = sum(map(_is_kept, operators)) <= MOST_OPENED
        self._outside = {side: set(network[side]["outputs"].values()) for side in ("before", "after")}
        self._readers = {side: _readers(network[side]["nodes"]) for side in ("before", "after")}
        self._labels = {name: name for side in ("before", "after") for name in network[side]["inputs"]}
        self._longest = max((time.ms or 0.0 for time in facts.all_times()), default=0.0)
        self._kept: list[tuple[str, str]] = []
        self._told: set[str] = set()
        self._n_tips = 0

    def links(self) -> Element | None:
        """Where the BatchNorms are that stayed; following one opens the modules around it."""
        if not self._kept:
            return None
        links: list[Child] = []
        for anchor, name in self._kept[:MOST_LINKS]:
            links += [", " if links else None, element("a", name, href=f"#{anchor}")]
        more = len(self._kept) - MOST_LINKS
        return element(
            "p", "BatchNorms that stay: ", *links, f" and {more} more" if more > 0 else None, class_="note"
        )

    def rows(self, parent: Row) -> Element:
        """The rows of a module as a list."""
        self._name(parent)
        sides = {side: self._rails(parent, side) for side in ("before", "after")}
        (left, n_left, _), (right, n_right, _) = sides["before"], sides["after"]
        items = [
            self._item(row, (left[k], right[k]), (n_left, n_right), self._reads(sides, k, parent))
            for k, row in enumerate(parent.rows)
        ]
        room = f"--l:{n_left * LANE_PX}px;--r:{n_right * LANE_PX}px"
        return element("ul", *items, style=room)

    def _name(self, parent: Row) -> None:
        for row in parent.rows:
            for inner in row.operators():
                for node in (inner.before, inner.after):
                    if node is not None:
                        self._labels[node["name"]] = row.label

    def _rails(self, parent: Row, side: str) -> tuple[list[Rail], int, dict[tuple[int, ...], set[int]]]:
        owners: dict[str, int] = {}
        nodes: list[tuple[str, Sequence[str]]] = []
        for index, row in enumerate(parent.rows):
            for inner in row.operators():
                node = inner.before if side == "before" else inner.after
                if node is not None:
                    owners[node["name"]] = index
                    nodes.append((node["name"], node["reads"]))
        outside = {
            name for name in owners
            if name in self._outside[side] or any(reader not in owners for reader in self._readers[side].get(name, ()))
        }  # fmt: skip
        edges = sources(owners, nodes, outside, len(parent.rows))
        made, n_lanes = rails(len(parent.rows), set(owners.values()), edges)
        return made, n_lanes, edges

    def _reads(self, sides: Mapping[str, Any], index: int, parent: Row) -> str | None:
        """What a row reads, in words, where that is not the row above it alone."""
        row = parent.rows[index]
        side = "before" if any(inner.before is not None for inner in row.operators()) else "after"
        edges = sides[side][2]
        own = sorted(key[0] for key, readers in edges.items() if index in readers)
        above = next((k for k in range(index - 1, -1, -1) if sides[side][0][k].dot is not None), -1)
        if own in ([above], [-1]):
            return None
        named = ["what comes from outside" if k < 0 else parent.rows[k].label for k in own]
        return f"reads {', '.join(dict.fromkeys(named))}" if named else None

    def _item(self, row: Row, beside: tuple[Rail, Rail], lanes: tuple[int, int], reads: str | None) -> Element:
        kept = next((inner for inner in row.operators() if _is_kept(inner)), None)
        left, right = (
            _svg(rail, n, side, has_kept=kept is not None)
            for rail, n, side in zip(beside, lanes, ("before", "after"), strict=True)
        )
        hidden = None if reads is None else element("span", f" {reads}", class_="vh")
        if row.is_operator:
            anchor: dict[str, str] = {}
            if kept is not None:
                anchor = {"id": f"bn{len(self._kept)}"}
                self._kept.append((anchor["id"], str((row.entry or {}).get("name", row.label))))
            return element("li", left, right, element("div", *self._cells(row, hidden), class_="row"), **anchor)
        opened = {"open": "open"} if self._opens or (kept is not None and self._opens_kept) else {}
        summary = element("summary", *self._sums(row, hidden), class_="row")
        return element("li", left, right, element("details", summary, self.rows(row), **opened))

    def _cells(self, row: Row, hidden: Child) -> Iterator[Child]:
        """An operator: its layer, what it was, what it is, its time."""
        yield element("b", row.label, hidden)
        before = None if row.before is None else _operator(row.before)
        yield _cell("before", before or ("BatchNorm" if row.entry is not None else None))
        yield _cell("after", None if row.after is None else _operator(row.after), *self._marks(row))
        found = self.facts.time_of(row) if row.after is not None else None
        if found is not None and found[0] not in self._told:
            self._told.add(found[0])
            yield self._time(found[1])

    def _marks(self, row: Row) -> Iterator[Child]:
        if row.entry is not None:
            yield from self._mark(str(row.entry["outcome"]), _fate(row.entry))
        elif row.after is None and row.path in self.facts.merged_into:
            yield from self._mark("merged", f"one of the branches that became {self.facts.merged_into[row.path]}")
        elif row.after is None:
            yield element("span", "gone", class_="gone")
        merged = self.facts.merged.get(row.path)
        if merged and row.after is not None and (row.before is None or row.before["op"] != row.after["op"]):
            yield from self._mark("new", f"merged from {', '.join(merged)}", "merged")
        channels = self.facts.channels.get(row.path)
        if channels and row.after is not None:
            text = f"{channels['from']} to {channels['to']} channels"
            yield from self._mark("removed", "the others were constant: dead channels", text)
        layer = self.facts.layer_of(row.after)
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

    def _sums(self, row: Row, hidden: Child) -> Iterator[Child]:
        """A module: how many operators it had and has, and what became of its BatchNorms."""
        rows = list(row.operators())
        yield element("b", row.label, hidden)
        yield _cell("before", _nodes(sum(inner.before is not None for inner in rows)))
        counts = Counter(str(inner.entry["outcome"]) for inner in rows if inner.entry is not None)
        kinds = Counter(layer["precision"] for inner in rows if (layer := self.facts.layer_of(inner.after)) is not None)
        marks = [element("span", f"{n} {name}", class_=f"mark {name}") for name, _ in _LEGEND if (n := counts[name])]
        marks += [
            element("span", f"{n} {kind}", class_=f"mark {'float' if kind == 'float32' else 'low'}")
            for kind, n in sorted(kinds.items())
        ]
        yield _cell("after", _nodes(sum(inner.after is not None for inner in rows)), *marks)
        total = self.facts.sum_of(inner for inner in rows if inner.after is not None)
        if total is not None:
            yield self._time(total, whole=True)

    def _time(self, time: Time, *, whole: bool = False) -> Element | None:
        """Milliseconds; of an operator with a bar that is as long as the network's longest is to it."""
        if time.ms is None:
            return None
        other = "" if time.against_ms is None else f" of {number(time.against_ms, 3)}"
        share = 0.0 if whole or not self._longest else time.ms / self._longest
        style = {"style": f"--w:{share:.0%}"} if share >= 0.01 else {}
        return element("span", f"{number(time.ms, 3)}{other} ms", class_="time", **style)


def _readers(nodes: Sequence[Facts]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for node in nodes:
        for read in node["reads"]:
            found.setdefault(read, []).append(node["name"])
    return found


def _is_kept(row: Row) -> bool:
    return row.entry is not None and row.entry["outcome"] == "kept"


def _operator(node: Facts) -> str:
    return _OPERATORS.get(node["op"], str(node["op"]))


def _nodes(count: int) -> str:
    return f"{count:,} node{'' if count == 1 else 's'}"


def _fate(entry: Facts) -> str | None:
    """Why a BatchNorm stays, or what took it."""
    if entry["outcome"] == "kept":
        return str(entry["reason"])
    return f"into {', '.join(entry['into'])}" if entry["into"] else None


def _cell(side: str, text: str | None, *marks: Child) -> Element:
    """A cell; who hears the page is told which of the two graphs it is about."""
    return element("span", element("span", f" {side}: ", class_="vh"), text or ("" if marks else "none"), *marks,
                   class_=side if text or marks else f"{side} none")  # fmt: skip


def _svg(rail: Rail, n_lanes: int, side: str, *, has_kept: bool) -> Element | None:
    """The lines beside a row."""
    if not rail.path and rail.dot is None:
        return None
    parts: list[Child] = [element("path", d=rail.path)] if rail.path else []
    if rail.dot is not None:
        mark = {"class_": "kept"} if has_kept else {}
        parts.append(element("circle", cx=str(rail.dot), cy=str(HEAD_PX), r="3.5", **mark))
    return element("svg", *parts, class_=side, width=str(n_lanes * LANE_PX), aria_hidden="true")
