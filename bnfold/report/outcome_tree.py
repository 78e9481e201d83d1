"""What becomes of the BatchNorms, as a tree of modules on standard output.

A module whose BatchNorms all vanish in one way is one line; what stays is named, with its reason. Lines are as wide as
the terminal, in a pipe as long as they are.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.text import Text
from rich.tree import Tree

from bnfold.records import as_json
from bnfold.records.base import few
from bnfold.report.network_tree import Row, network_tree
from bnfold.report.tables import print_whole, terminal_height

if TYPE_CHECKING:
    from bnfold.records import Ledger

__all__ = ["render_outcomes", "tree_fits"]

_STYLES = {"absorbed": "green", "merged": "blue", "removed": "dim", "kept": "bold yellow"}
_OTHER_LINES = 12  # of a summary


def render_outcomes(ledger: Ledger) -> None:
    """Print the tree; nothing where there is no BatchNorm."""
    if ledger.entries:
        print_whole(_tree(ledger))


def tree_fits(ledger: Ledger) -> bool:
    """Whether standard output is a terminal that shows the whole tree together with a summary."""
    height = terminal_height()
    return height is not None and _n_lines(_tree(ledger)) + _OTHER_LINES <= height


def _tree(ledger: Ledger) -> Tree:
    root = network_tree(None, as_json(ledger)["entries"])
    tree = Tree("BatchNorms", hide_root=True)
    for row in root.rows:
        _grow(tree, row)
    return tree


def _grow(tree: Tree, row: Row) -> None:
    """Add a row; those below it where they have different ends, or stay."""
    entries = [inner.entry for inner in row.operators() if inner.entry is not None]
    counts = Counter(str(entry["outcome"]) for entry in entries)
    line = Text(row.label)
    if row.is_operator:
        (entry,) = entries
        told = entry["reason"] or (f"into {few(entry['into'])}" if entry["into"] else "")
        line.append(" ").append(entry["outcome"], _STYLES[entry["outcome"]])
        tree.add(line.append(f": {told}" if entry["reason"] else f" {told}" if told else ""))
        return
    for outcome, style in _STYLES.items():
        if counts[outcome]:
            line.append(" " if line.plain == row.label else ", ").append(f"{counts[outcome]} {outcome}", style)
    branch = tree.add(line)
    if len(counts) > 1 or counts["kept"]:
        for inner in row.rows:
            _grow(branch, inner)


def _n_lines(tree: Tree) -> int:
    return len(tree.children) + sum(map(_n_lines, tree.children))
