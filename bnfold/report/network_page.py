"""The drawing of a network on a page: its modules as a tree, every operator as it was and as it is in the file.

Lines beside the rows lead from what an operator gives to those that read it, on the left before the fold, on the right
after it. Modules open and close by themselves (`details`), what happened to an operator is a button whose text shows on
hover, on focus and when it is pressed (`popover`): no script.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bnfold.report.elements import Child, element
from bnfold.report.network_cells import LEGEND, Cells
from bnfold.report.network_facts import LayerFacts
from bnfold.report.network_tree import Row, is_kept, network_tree
from bnfold.report.rails import HEAD_PX, LANE_PX, Rail, rails, sources, upward

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

__all__ = ["network_section"]

Facts = Mapping[str, Any]
MOST_SHOWN = 40
"""Rows up to which modules are open, level by level."""
MOST_OPENED = 12
"""BatchNorms that stay up to which the modules around them are open besides."""
MOST_LINKS = 6
"""Links that are shown without being asked for."""
WIDE = 4
"""Lanes from which on a phone has no room for the file's."""


def network_section(report: Facts, *, profile: Facts | None = None, linked: bool = True) -> Element | None:
    """The drawing of a report's network; None where the report has none.

    Args:
        report: the JSON of `fold-export`, `inspect` or `quantize`.
        profile: where the time of the same file goes, by `bench --profile`.
        linked: whether the page has an address of its own; in a frame of a notebook a link leads to the notebook.
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
        part for name, text in LEGEND if name in outcomes
        for part in (element("dt", name, class_=f"mark {name}"), element("dd", text))
    ]  # fmt: skip
    return element(
        "section",
        element("h2", "Network"),
        element("p", _how_to_read(drawer), class_="note"),
        element("dl", *legend, class_="legend") if legend else None,
        drawer.links() if linked else None,
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
        "Every operator before and after the fold, by module. The lines on the left are the source's graph, those on "
        "the right the file's; they lead from a row to the rows that read it. Hover over an outcome, focus it, or "
        "press it, to read more."
    )
    times = (
        " Times are milliseconds of one run, by ONNX Runtime's profile; in brackets, of the file it is compared with."
    )
    lower = " The file is the folded one; the precision of a layer is that which it has in the file of lower precision."
    return text + (lower if drawer.facts.layers else "") + (times if drawer.facts.has_times else "")


@dataclasses.dataclass(frozen=True)
class _Side:
    """The lines of a list on one side of it, the lanes they take, and the edges they are: see `rails`."""

    rails: list[Rail]
    n_lanes: int
    edges: Mapping[tuple[int, ...], set[int]]
    upward: Mapping[int, set[int]]


class _Drawer:
    """Draws rows, and remembers where BatchNorms are that stay."""

    def __init__(self, network: Facts, facts: LayerFacts, tree: Row) -> None:
        self.facts = facts
        self._opened = _opened(tree)
        self._outside = {side: set(network[side]["outputs"].values()) for side in ("before", "after")}
        self._readers = {side: _readers(network[side]["nodes"]) for side in ("before", "after")}
        self._cells = Cells(facts)
        self._kept: list[tuple[str, str]] = []

    def links(self) -> Element | None:
        """Where the BatchNorms are that stayed; following one opens the modules around it."""
        if not self._kept:
            return None
        links: list[Child] = []
        for anchor, name in self._kept:
            links += [", " if links else None, element("a", name, href=f"#{anchor}")]
        n = len(self._kept)
        if n <= MOST_LINKS:
            return element("p", "Where BatchNorms stay: ", *links, class_="note")
        return element("details", element("summary", f"Where the {n} BatchNorms are that stay"), element("p", *links))

    def rows(self, parent: Row) -> Element:
        """The rows of a module as a list."""
        before, after = self._side(parent, "before"), self._side(parent, "after")
        items = [
            self._item(row, (before, after), k, _reads(before if before.rails[k].dot is not None else after, k, parent))
            for k, row in enumerate(parent.rows)
        ]
        room = f"--l:{before.n_lanes * LANE_PX}px;--r:{after.n_lanes * LANE_PX}px"
        return element("ul", *items, role="list", style=room, **({"class_": "wide"} if after.n_lanes >= WIDE else {}))

    def _side(self, parent: Row, side: str) -> _Side:
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
        return _Side(made, n_lanes, edges, upward(owners, nodes))

    def _item(self, row: Row, sides: tuple[_Side, _Side], index: int, reads: Child) -> Element:
        kept = next((inner for inner in row.operators() if is_kept(inner)), None)
        left, right = (
            _svg(side.rails[index], side.n_lanes, name, has_kept=kept is not None)
            for side, name in zip(sides, ("before", "after"), strict=True)
        )
        if row.is_operator:
            anchor: dict[str, str] = {}
            if kept is not None:
                anchor = {"id": f"bn{len(self._kept)}"}
                self._kept.append((anchor["id"], str((row.entry or {}).get("name", row.label))))
            return element("li", left, right, element("div", *self._cells.operator(row, reads), class_="row"), **anchor)
        opened = {"open": "open"} if row in self._opened else {}
        summary = element("summary", *self._cells.module(row, reads), class_="row")
        return element("li", left, right, element("details", summary, self.rows(row), **opened))


def _opened(tree: Row) -> set[Row]:
    """The modules that are open: whole levels while they are short, and those around what stays if that is little."""
    opened: set[Row] = set()
    level, n_shown = [tree], 0
    while level and (n_shown := n_shown + sum(len(row.rows) for row in level)) <= MOST_SHOWN:
        opened.update(level)
        level = [inner for row in level for inner in row.rows if inner.rows]
    if sum(map(is_kept, tree.operators())) <= MOST_OPENED:
        opened.update(row for row in tree.modules() if any(map(is_kept, row.operators())))
    return opened


def _reads(side: _Side, index: int, parent: Row) -> Element | None:
    """What a row reads, in words: of rows below it, to which there is no line, and for who does not see the lines."""
    below = side.upward.get(index)
    if below:
        return element("small", f" called again, with {', '.join(parent.rows[k].label for k in sorted(below))}")
    own = sorted({key[0] for key, readers in side.edges.items() if index in readers})
    above = next((k for k in range(index - 1, -1, -1) if side.rails[k].dot is not None), -1)
    if not own or own in ([above], [-1]):
        return None
    named = ["what comes from outside" if k < 0 else parent.rows[k].label for k in own]
    return element("span", f" reads {', '.join(dict.fromkeys(named))}", class_="vh")


def _readers(nodes: Sequence[Facts]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for node in nodes:
        for read in node["reads"]:
            found.setdefault(read, []).append(node["name"])
    return found


def _svg(rail: Rail, n_lanes: int, side: str, *, has_kept: bool) -> Element | None:
    """The lines beside a row."""
    if not rail.path and rail.dot is None:
        return None
    parts: list[Child] = [element("path", d=rail.path)] if rail.path else []
    if rail.dot is not None:
        mark = {"class_": "kept"} if has_kept else {}
        parts.append(element("circle", cx=str(rail.dot), cy=str(HEAD_PX), r="3.5", **mark))
    return element("svg", *parts, class_=side, width=str(n_lanes * LANE_PX), aria_hidden="true")
