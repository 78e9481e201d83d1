"""The script that holds the zoo to its word: what it calls a miss, and where it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bnfold.sources.usercode import import_file

SCRIPT = import_file(Path(__file__).parents[2] / "scripts" / "zoo_table.py")

GOOD: dict[str, Any] = {
    "network": "net",
    "task": "classification",
    "data": "digits",
    "metric": "accuracy",
    "reached": 0.97,
    "stated": 0.97,
    "kept_stated": 1,
    "ledger": {"found": 3, "absorbed": 2, "merged": 0, "removed": 0, "kept": 1},
    "equal": True,
    "outputs": [
        {"e_output": 1e-7, "allowed": 1e-5},
        {"e_output": 5e-8, "allowed": 1e-7},
    ],
    "seconds": 12.3,
}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, None),
        ({"reached": 0.96}, "net: test accuracy 0.9600, stated at least 0.97"),
        ({"metric": "frechet", "reached": 0.7, "stated": 1.0}, None),
        ({"metric": "frechet", "reached": 1.2, "stated": 1.0}, "net: test frechet 1.2000, stated at most 1.0"),
        ({"kept_stated": 0}, "net: 1 BatchNorms kept, stated 0"),
        ({"equal": False}, "net: the file is not equal to the network"),
        ({"seconds": 121.0}, "net: trained in 121 s, expected at most 120"),
    ],
)
def test_misses_are_named(changed: dict[str, Any], words: str | None) -> None:
    assert SCRIPT.misses({**GOOD, **changed}) == ([] if words is None else [words])


def test_table_shows_the_output_nearest_to_what_is_allowed() -> None:
    text = SCRIPT.table_text([GOOD])
    assert "accuracy 0.970 / 0.97" in text
    assert "3 / 2 / 0 / 1" in text
    assert "yes, 5.0e-08 (1.0e-07)" in text
    assert "not measured" in text
    assert not [line for line in text.splitlines() if line != line.rstrip()]


def test_table_goes_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- zoo -->\nold\n<!-- /zoo -->\nafter\n")
    SCRIPT.write_between_marks(page, "new")
    assert page.read_text() == "before\n<!-- zoo -->\n```text\nnew\n```\n<!-- /zoo -->\nafter\n"
    page.write_text("no marks")
    with pytest.raises(SystemExit, match="has no marks"):
        SCRIPT.write_between_marks(page, "new")
