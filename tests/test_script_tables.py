"""The tables that scripts/ write in Markdown come from one function, scripts/common/tables.py."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bnfold.sources.usercode import import_file

if TYPE_CHECKING:
    from types import ModuleType

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
WRITER = SCRIPTS / "common" / "tables.py"


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    return import_file(WRITER)


def test_headings_alignment_and_rows(tables: ModuleType) -> None:
    text = tables.markdown_table(("", "caught", "of"), [("verify", 3, 4), ("**all**", "", 4)], right=(1, 2))
    assert text.splitlines() == ["| | caught | of |", "|---|---:|---:|", "| verify | 3 | 4 |", "| **all** | | 4 |"]


def test_a_bar_does_not_end_a_cell(tables: ModuleType) -> None:
    assert tables.markdown_line(("a | b", r"`c \| d`")) == r"| a \| b | `c \| d` |"


def test_a_row_of_another_length_is_no_row(tables: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"must have 2 cells, got 1: \['a'\]"):
        tables.markdown_table(("x", "y"), [("a",)])


def test_no_other_script_writes_tables() -> None:
    scripts = sorted(SCRIPTS.rglob("*.py"))
    found = {path for path in scripts if re.search(r"---:?\|", path.read_text(encoding="utf-8"))}
    assert found == {WRITER}
