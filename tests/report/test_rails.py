"""Lines beside rows: a lane as long as a value is read, a curve to each reader, no more lanes than there is room."""

from __future__ import annotations

import re

from bnfold.report.rails import MOST_LANES, rails, sources, upward

CHAIN = {"a": ("x",), "b": ("a",), "c": ("b",)}


def drawn(reads: dict[str, tuple[str, ...]], *outputs: str) -> tuple[list[str], list[int | None], int]:
    """The paths and dots of the rows, one for each node, and the lanes they take."""
    owners = {name: row for row, name in enumerate(reads)}
    edges = sources(owners, reads.items(), outputs, len(reads))
    made, n_lanes = rails(len(reads), set(owners.values()), edges)
    return [rail.path for rail in made], [rail.dot for rail in made], n_lanes


def test_a_chain_is_one_straight_line_from_the_input_to_the_output() -> None:
    paths, dots, n_lanes = drawn(CHAIN, "c")
    assert (paths, dots, n_lanes) == (["M5 0V14M5 14V99999"] * 3, [5, 5, 5], 1)


def test_the_last_row_ends_its_line_if_nobody_reads_it() -> None:
    assert drawn(CHAIN)[0][-1] == "M5 0V14"


def test_a_residual_passes_by_and_comes_back() -> None:
    paths, dots, n_lanes = drawn({"a": ("x",), "b": ("a",), "c": ("b",), "add": ("c", "a")}, "add")
    assert n_lanes == 2
    assert dots == [5, 15, 15, 5]  # the branch stands beside the stream
    assert paths[1] == "M5 0V99999M5 0Q5 14 15 14M15 14V99999"  # the stream goes on, a curve leaves it
    assert paths[3] == "M5 0V14M15 0Q15 14 5 14M5 14V99999"  # and the branch joins it


def test_what_one_row_reads_from_elsewhere_comes_in_one_lane() -> None:
    assert drawn({"concat": ("u", "v", "w"), "b": ("concat",)}, "b")[2] == 1
    assert drawn({"a": ("u",), "b": ("a", "v")}, "b")[2] == 2


def test_edges_that_lead_up_are_no_lines() -> None:
    owners = {"a": 0, "b": 1, "c": 0}
    reads: list[tuple[str, tuple[str, ...]]] = [("a", ()), ("b", ("a",)), ("c", ("b", "a", "outside"))]
    assert sources(owners, reads, (), 2) == {(0,): {1}, (-1, 0): {0}}
    assert upward(owners, reads) == {0: {1}}


def test_a_row_that_is_not_in_the_graph_lets_lines_pass() -> None:
    made, _ = rails(3, {0, 2}, {(0,): {2}})
    assert (made[1].path, made[1].dot) == ("M5 0V99999", None)


def test_many_values_share_the_last_lane() -> None:
    n = 3 * MOST_LANES
    dense = {f"n{k}": tuple(f"n{j}" for j in range(k)) for k in range(n)}
    paths, dots, n_lanes = drawn(dense)
    assert n_lanes == MOST_LANES
    xs = [int(x) for path in paths for x in re.findall(r"M(\d+)", path)]
    assert max(xs) <= 10 * MOST_LANES - 5
    assert max(dot for dot in dots if dot is not None) <= 10 * MOST_LANES - 5
    assert max(path.count("M") for path in paths) <= 2 * MOST_LANES + 1  # no line twice
