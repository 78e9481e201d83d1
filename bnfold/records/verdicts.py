"""What an interval of a time ratio says, and how that is put in words, in tables, pages, pictures and gates alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bnfold.records.benchmark import Leaning, RatioVerdict

__all__ = ["decided", "verdict_in_words"]


def decided(low: float, high: float, *, may_name: bool) -> tuple[RatioVerdict, Leaning | None]:
    """The verdict on a ratio time(a) / time(b), and to which side it leans where no winner is named.

    `tie` means that the interval holds 1, and nothing else does.

    Args:
        low: the end of the interval below.
        high: the end above.
        may_name: whether a winner may be named: the machine was quiet, and enough was measured.
    """
    if low <= 1 <= high:
        return "tie", None
    side: Leaning = "faster" if high < 1 else "slower"
    return (side, None) if may_name else ("undecided", side)


def verdict_in_words(row: Mapping[str, Any]) -> str:
    """The verdict, with its leaning where it has one: "undecided, leaning to slower".

    Args:
        row: the fields of a `BenchRatio`, `MeasuredChoice` or `Timing`, or what the JSON of an older report has.
    """
    leaning = row.get("leaning")
    return f"{row['verdict']}, leaning to {leaning}" if leaning else str(row["verdict"])
