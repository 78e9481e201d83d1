"""A network as a tree: modules, operators with what became of them, every BatchNorm of the ledger once."""

from __future__ import annotations

from typing import Any

import pytest

from bnfold.report.network_tree import MOST_ROWS, Row, network_tree

Node = tuple[str, str, str]


def nodes(*described: Node, batchnorms: bool = False) -> list[dict[str, Any]]:
    """Nodes of (name, operator, layer); a chain."""
    names = ["x", *(name for name, _, _ in described)]
    return [
        {
            "name": name, "op": op, "layer": layer, "reads": [names[k]], "parameters": None,
            "batchnorm": layer if batchnorms and op == "BatchNormalization" else None,
        }
        for k, (name, op, layer) in enumerate(described)
    ]  # fmt: skip


def entry(name: str, outcome: str) -> dict[str, Any]:
    return {"name": name, "outcome": outcome, "into": [], "reason": None}


def tree(before: list[Node], after: list[Node], *entries: dict[str, Any]) -> Row:
    facts = {
        "before": {"inputs": ["x"], "nodes": nodes(*before, batchnorms=True), "outputs": {}},
        "after": {"inputs": ["x"], "nodes": nodes(*after), "outputs": {}},
    }
    return network_tree(facts, entries)


def told(row: Row) -> Any:
    """An operator as (label, before, after), a module as (label, rows)."""
    if row.is_operator:
        return (row.label, *(None if node is None else node["op"] for node in (row.before, row.after)))
    return row.label, [told(inner) for inner in row.rows]


def test_operators_stand_under_their_modules_with_what_they_became() -> None:
    found = tree(
        [
            ("n1", "Conv", "stem.conv"), ("n2", "BatchNormalization", "stem.bn"), ("n3", "Relu", ""),
            ("n4", "Conv", "layers.0.conv"), ("n5", "Add", "layers.0"), ("n6", "Conv", "layers.1"),
        ],
        [
            ("stem.conv/Conv", "Conv", "stem.conv"), ("Relu", "Relu", ""),
            ("layers.0.conv/Conv", "Conv", "layers.0.conv"), ("layers.0/Add", "Add", "layers.0"),
            ("layers.1/Conv", "Conv", "layers.1"),
        ],
        entry("stem.bn", "absorbed"),
    )  # fmt: skip
    assert told(found) == (
        "",
        [
            ("stem", [("conv", "Conv", "Conv"), ("bn", "BatchNormalization", None)]),
            ("Relu", "Relu", "Relu"),
            ("layers", [("0", [("conv", "Conv", "Conv"), ("Add", "Add", "Add")]), ("1", "Conv", "Conv")]),
        ],
    )
    assert [row.entry["outcome"] for row in found.operators() if row.entry] == ["absorbed"]


def test_a_module_with_one_thing_in_it_gives_that_its_name() -> None:
    found = tree([("a", "Conv", "net.body.0.conv"), ("b", "Relu", "net.body.0.act"), ("c", "Gemm", "head.fc")], [])
    assert [row.label for row in found.rows] == ["net.body.0", "head.fc"]
    assert [row.label for row in found.rows[0].rows] == ["conv", "act"]


def test_merged_branches_leave_an_operator_in_the_place_of_their_sum() -> None:
    found = tree(
        [("a", "Conv", "b.one"), ("b", "Conv", "b.two"), ("c", "Add", "b"), ("d", "Relu", "b")],
        [("b/Conv", "Conv", "b"), ("b/Relu", "Relu", "b")],
    )
    (block,) = found.rows
    assert told(block)[1] == [
        ("one", "Conv", None),
        ("two", "Conv", None),
        ("Add", "Add", "Conv"),
        ("Relu", "Relu", "Relu"),
    ]


def test_operators_of_the_network_itself_are_no_partners_of_others() -> None:
    found = tree([("a", "Flatten", ""), ("b", "Conv", "c")], [("m", "Mul", ""), ("c/Conv", "Conv", "c")])
    assert [told(row) for row in found.rows] == [
        ("Mul", None, "Mul"),
        ("Flatten", "Flatten", None),
        ("c", "Conv", "Conv"),
    ]


def test_a_new_operator_stands_behind_the_one_in_front_of_it() -> None:
    found = tree(
        [("a", "Conv", "one"), ("b", "Conv", "two"), ("c", "Conv", "three")],
        [("one/Conv", "Conv", "one"), ("two/Conv", "Conv", "two"), ("Mul", "Mul", ""), ("three/Conv", "Conv", "three")],
    )
    assert [row.label for row in found.rows] == ["one", "two", "Mul", "three"]


def test_rows_stand_as_the_source_first_comes_to_them() -> None:
    """An activation that is called twice stands where it is called first, and moves nothing."""
    names = ("bn1", "act", "conv1", "bn2", "act", "conv2")
    described: list[Node] = [(f"n{k}", "Relu" if name == "act" else "Conv", name) for k, name in enumerate(names)]
    found = tree(described, [(f"{layer}/{op}#{k}", op, layer) for k, (_, op, layer) in enumerate(described)])
    assert [row.label for row in found.rows] == ["bn1", "act", "conv1", "bn2", "conv2"]


def test_a_vanished_batchnorm_is_no_partner_and_a_kept_one_is() -> None:
    before: list[Node] = [("a", "BatchNormalization", "m.bn"), ("b", "BatchNormalization", "m.bn2")]
    found = tree(
        before, [("m.bn/Mul", "Mul", "m.bn"), ("m.bn2/BatchNormalization", "BatchNormalization", "m.bn2")],
        entry("m.bn", "absorbed"), entry("m.bn2", "kept"),
    )  # fmt: skip
    new, gone, kept = found.operators()
    assert (gone.after, gone.entry and gone.entry["outcome"]) == (None, "absorbed")
    assert (new.before, new.after and new.after["op"]) == (None, "Mul")
    assert kept.after is not None


@pytest.mark.parametrize("with_network", [True, False])
def test_every_batchnorm_of_the_ledger_is_there_once(with_network: bool) -> None:
    """Also one that is no node of the source: it stood in parts."""
    entries = [entry("a.bn", "absorbed"), entry("/a/a.0/parts", "kept"), entry("a.bn#2", "kept")]
    before: list[Node] = [("n", "BatchNormalization", "a.bn"), ("m", "Mul", "a.0.parts")]
    found = tree(before, [], *entries) if with_network else network_tree(None, entries)
    assert sorted(row.entry["name"] for row in found.operators() if row.entry) == sorted(e["name"] for e in entries)
    paths = {row.entry["name"]: row.path for row in found.operators() if row.entry}
    assert paths["/a/a.0/parts"] == "a.0.parts"


def test_many_rows_come_in_runs() -> None:
    described: list[Node] = [(f"n{k}", "Relu" if k else "Conv", "") for k in range(2 * MOST_ROWS)]
    found = tree(described, [])
    assert [row.label for row in found.rows][:2] == ["Conv to Relu", "Relu to Relu"]
    assert sum(1 for _ in found.operators()) == 2 * MOST_ROWS
    assert len(found.rows) < MOST_ROWS
