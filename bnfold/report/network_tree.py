"""A network as a tree of its modules, each row of it as it was and as it is in the file.

The tree is made of the JSON of a report (`network`, `ledger`, `removed_channels`, `merged_branches`), for the page and
for the terminal. A row is a module with rows of its own, or an operator: the node before, the node after, or both.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bnfold.graph import operators as op
from bnfold.records.network import module_path

__all__ = ["MOST_ROWS", "Row", "is_kept", "network_tree", "operator_name"]

Facts = Mapping[str, Any]
MOST_ROWS = 60
"""Rows of a module that are shown as they come; of more, every `RUN` become one that can be opened."""
RUN = 30


@dataclasses.dataclass(eq=False)
class Row:
    """A row of the tree.

    Attributes:
        path: of the module; of an operator that of its module.
        label: what to call it under the row that it is in.
        rows: of a module, in the order of the source's graph.
        before: of an operator its node in the source, None where it is new.
        after: its node in the file, None where it is gone.
        entry: of a BatchNorm what the ledger says.
    """

    path: str
    label: str
    rows: list[Row] = dataclasses.field(default_factory=list)
    before: Facts | None = None
    after: Facts | None = None
    entry: Facts | None = None

    @property
    def is_operator(self) -> bool:
        """Whether it is no module."""
        return self.before is not None or self.after is not None or self.entry is not None

    def operators(self) -> Iterator[Row]:
        """The operators below it, or itself."""
        if self.is_operator:
            yield self
        for row in self.rows:
            yield from row.operators()

    def modules(self) -> Iterator[Row]:
        """Itself and the modules below it."""
        if self.rows:
            yield self
        for row in self.rows:
            yield from row.modules()


def operator_name(node: Facts | None) -> str:
    """The type of an operator as people call it; a node that no graph has is a BatchNorm of the ledger."""
    return "BatchNorm" if node is None or node["op"] == op.BatchNormalization else str(node["op"])


def is_kept(row: Row) -> bool:
    """Whether a row is a BatchNorm that stays."""
    return row.entry is not None and row.entry["outcome"] == "kept"


def network_tree(network: Facts | None, entries: Sequence[Facts]) -> Row:
    """The tree of a network; its root has no label.

    Args:
        network: the record `NetworkFacts` as JSON; without it the tree has the BatchNorms alone.
        entries: those of the ledger; each is in the tree once.
    """
    before: Sequence[Facts] = network["before"]["nodes"] if network is not None else ()
    after: Sequence[Facts] = network["after"]["nodes"] if network is not None else ()
    fates = {entry["name"]: entry for entry in entries}
    builder = _Builder()
    operators: dict[str, Row] = {}
    for node in before:
        operators[node["name"]] = builder.add(node["layer"], before=node, entry=fates.pop(node["batchnorm"], None))
    partners = _partners(before, after, {name: row.entry for name, row in operators.items()})
    builder.begin_again()
    for node in after:
        partner = partners.get(node["name"])
        builder.add(node["layer"], after=node, at=None if partner is None else operators[partner])
    for name, entry in fates.items():  # those that are no node of the source: decomposed ones
        builder.add(module_path(str(name)), entry=entry)
    return _chunked(_shortened(builder.root))


class _Builder:
    """Puts operators under their modules; a new row stands behind all that were added or met before it."""

    def __init__(self) -> None:
        self.root = Row("", "")
        self._modules: dict[str, Row] = {"": self.root}
        self._parents: dict[Row, Row] = {}
        self._met: dict[Row, Row] = {}

    def begin_again(self) -> None:
        """The next operators are those of another graph."""
        self._met.clear()

    def add(self, path: str, *, at: Row | None = None, before: Facts | None = None, after: Facts | None = None,
            entry: Facts | None = None) -> Row:  # fmt: skip
        """A new operator, or the node after of the one `at`."""
        row = at or Row(path, operator_name(before or after), before=before, entry=entry)
        row.after = row.after if after is None else after
        self._place(row, self._module(path))
        return row

    def _module(self, path: str) -> Row:
        if path not in self._modules:
            head, _, label = path.rpartition(".")
            parent = self._module(head)
            self._modules[path] = row = Row(path, label)
            self._place(row, parent)
        return self._modules[path]

    def _place(self, row: Row, parent: Row) -> None:
        """Behind the last row of this module that was met; one that has a place keeps it. Its modules are met, too."""
        if row not in self._parents:
            self._parents[row] = parent
            last = self._met.get(parent)
            parent.rows.insert(0 if last is None else parent.rows.index(last) + 1, row)
        met = row
        while met is not self.root:
            around = self._parents[met]
            last = self._met.get(around)
            if last is None or around.rows.index(last) < around.rows.index(met):
                self._met[around] = met
            met = around


def _partners(before: Sequence[Facts], after: Sequence[Facts], entries: Mapping[str, Facts | None]) -> dict[str, str]:
    """Which node of the source each node of the file stands for: of one layer, the same operator if there is one."""
    waiting: defaultdict[str, list[Facts]] = defaultdict(list)
    for node in before:
        entry = entries[node["name"]]
        if entry is None or entry["outcome"] == "kept":
            waiting[node["layer"]].append(node)
    partners: dict[str, str] = {}
    for is_partner in (_is_same, _is_of_one_operator, _is_any):
        for node in after:
            if node["name"] in partners:
                continue
            mine = waiting[node["layer"]]
            found = next((other for other in mine if is_partner(other, node)), None)
            if found is not None:
                mine.remove(found)
                partners[node["name"]] = found["name"]
    return partners


def _is_same(before: Facts, after: Facts) -> bool:
    return bool(before["name"] == after["name"] and before["op"] == after["op"])


def _is_of_one_operator(before: Facts, after: Facts) -> bool:
    return bool(before["op"] == after["op"])


def _is_any(before: Facts, after: Facts) -> bool:
    """Not of the network itself, whose operators have nothing to do with each other."""
    return bool(before["layer"] and after["layer"])


def _shortened(row: Row) -> Row:
    """Without modules that hold one thing alone: a module takes the place of its one module or operator."""
    row.rows = [_shortened(inner) for inner in row.rows]
    if row.label and len(row.rows) == 1:
        (inner,) = row.rows
        is_own = inner.is_operator and inner.path == row.path
        inner.label = row.label if is_own else f"{row.label}.{inner.label}"
        return inner
    return row


def _chunked(row: Row) -> Row:
    """With modules of many rows in runs."""
    row.rows = [_chunked(inner) for inner in row.rows]
    if len(row.rows) > MOST_ROWS:
        runs = [row.rows[k : k + RUN] for k in range(0, len(row.rows), RUN)]
        row.rows = [Row(row.path, f"{run[0].label} to {run[-1].label}", run) for run in runs]
    return row
