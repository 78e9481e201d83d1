"""docs/errors.md is what the code raises, and every error says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from bnfold.errors import InputRefused
from bnfold.sources.usercode import import_file

TABLE = import_file(Path(__file__).resolve().parents[1] / "scripts" / "error_table.py")
# These end a step inside a command, which says the rest: the file is then unproven, or its fault not localised.
CAUGHT = {
    "verification/certificate/evaluation.py", "verification/certificate/trial.py",
    "verification/localisation/float64_nodes.py", "verification/localisation/imprecise_node.py",
    "verification/localisation/reproduction.py",
}  # fmt: skip


def test_page_is_current() -> None:
    assert TABLE.PAGE.read_text() == TABLE.page(), "run python scripts/error_table.py"


def test_every_error_says_what_to_do() -> None:
    found = TABLE.errors()
    assert len(found) > 350
    silent = [f"{each.file}:{each.line}: {each.what}" for each in found if not each.texts["remedy"]]
    assert [place for place in silent if place.partition(":")[0] not in CAUGHT] == []
    assert {place.partition(":")[0] for place in silent} == CAUGHT


def test_every_error_is_on_the_page() -> None:
    begins = tuple(begin for _, rooms in TABLE.ROOMS for begin in rooms)
    assert [each.file for each in TABLE.errors() if not each.file.startswith(begins)] == []


@pytest.mark.parametrize(
    ("code", "cells"),
    [
        (
            'InputRefused("no", found=f"{n:g} of {layer.name}", remedy=REMEDY)',
            ["3", "no", "", "*n* of *name*", "", "go"],
        ),
        ('GateFailed("slow" if a else "late", where=str(path))', ["1", "slow / late", "*path*", "", "", ""]),
        ('InputRefused(f"{name} must be {low}, got {x!r}")', ["3", "*name* must be *low*, got *x*", "", "", "", ""]),
    ],
)
def test_errors_are_read_from_code(code: str, cells: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(f'REMEDY = "go"\ndef f():\n    raise {code}\n')
    (found,) = TABLE.errors(tmp_path)
    assert TABLE._row(found) == cells


def test_the_line_is_built_as_the_page_says() -> None:
    error = InputRefused("no shape", where="net.onnx", found="text", expected="a tensor", remedy="export it again")
    assert str(error) == "no shape in net.onnx: found text, expected a tensor; export it again"
