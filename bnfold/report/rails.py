"""The edges between the rows of a list, as lines beside it.

A dot is a row. Its lane goes on down as long as another row reads what it gives; curves lead from the lanes of what a
row reads to its dot.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["HEAD_PX", "LANE_PX", "MOST_LANES", "Rail", "rails", "sources", "upward"]

LANE_PX = 10
HEAD_PX = 14  # from the top of a row to its dot
MOST_LANES = 6  # more values share the last one
_FAR = 99999  # px: lines go on to the bottom of their row, however high it is


@dataclasses.dataclass(frozen=True)
class Rail:
    """What stands beside a row: the lines as an SVG path, and the place of its dot, None where it has none."""

    path: str
    dot: int | None


def sources(
    owners: Mapping[str, int], reads: Iterable[tuple[str, Sequence[str]]], outside: Iterable[str], n_rows: int
) -> dict[tuple[int, ...], set[int]]:
    """Which rows read what: by the row that gives it, and for what comes from elsewhere by the rows that read it.

    Args:
        owners: the row of each node.
        reads: every one of these nodes with the names that it reads, those of other lists included.
        outside: nodes that are read elsewhere.
        n_rows: how many rows there are.

    Returns:
        The rows that read a value, by the row that gives it, `(row,)`, or by `(-1, *rows)` for those from elsewhere;
        the number of rows stands for readers elsewhere. Edges that lead up, or from a row to itself, are left out.
    """
    found: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
    entering: defaultdict[str, set[int]] = defaultdict(set)
    for name, names in reads:
        row = owners[name]
        for read in names:
            if read not in owners:
                entering[read].add(row)
            elif owners[read] < row:
                found[(owners[read],)].add(row)
    for rows in entering.values():
        found[(-1, *sorted(rows))] |= rows
    for name in outside:
        if name in owners:
            found[(owners[name],)].add(n_rows)
    return dict(found)


def upward(owners: Mapping[str, int], reads: Iterable[tuple[str, Sequence[str]]]) -> dict[int, set[int]]:
    """The edges that `sources` leaves out: by the row that reads, the rows below it that give what it reads.

    A module that is called again reads what comes after its first call.
    """
    found: defaultdict[int, set[int]] = defaultdict(set)
    for name, names in reads:
        for read in names:
            if owners.get(read, -1) > owners[name]:
                found[owners[name]].add(owners[read])
    return dict(found)


def rails(n_rows: int, present: set[int], edges: Mapping[tuple[int, ...], set[int]]) -> tuple[list[Rail], int]:
    """The rail of every row, and how many lanes they take.

    Args:
        n_rows: how many rows there are.
        present: those that have a dot.
        edges: see `sources`.
    """
    lanes: dict[int, tuple[tuple[int, ...], int]] = {}  # lane -> whose value, and the last row that reads it
    for source in sorted(key for key in edges if key[0] < 0):
        lanes[_free(lanes)] = source, max(edges[source])
    made, most = [], len(lanes)
    for row in range(n_rows):
        read = [lane for lane, (source, _) in lanes.items() if row in edges[source]]
        ended = [lane for lane in read if lanes[lane][1] == row]
        through = [lane for lane in lanes if lane not in ended]
        for lane in ended:
            del lanes[lane]
        dot = None
        if row in present:
            dot = min(ended) if ended else _free(lanes)
            if edges.get((row,)):
                lanes[dot] = (row,), max(edges[(row,)])
        made.append(Rail(_path(through, read, dot, goes_on=dot in lanes), None if dot is None else _x(dot)))
        most = max(most, *(lane + 1 for lane in (*lanes, *read, dot or 0)))
    return made, min(most, MOST_LANES)


def _free(lanes: Mapping[int, object]) -> int:
    return next(lane for lane in range(len(lanes) + 1) if lane not in lanes)


def _path(through: Sequence[int], read: Sequence[int], dot: int | None, *, goes_on: bool) -> str:
    lines = {_x(lane): f"M{_x(lane)} 0V{_FAR}" for lane in through}
    parts = list(lines.values())
    if dot is not None:
        x = _x(dot)
        parts += dict.fromkeys(
            f"M{x} 0V{HEAD_PX}" if _x(lane) == x else f"M{_x(lane)} 0Q{_x(lane)} {HEAD_PX} {x} {HEAD_PX}"
            for lane in read
        )
        parts += [f"M{x} {HEAD_PX}V{_FAR}"] if goes_on and x not in lines else []
    return "".join(parts)


def _x(lane: int) -> int:
    """The middle of a lane; those beyond the last one share it."""
    return LANE_PX * min(lane, MOST_LANES - 1) + LANE_PX // 2
