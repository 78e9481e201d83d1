"""Files and trained networks by others, as they were published: read without an option, folded, proven equal."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))
try:
    from field.sources import FieldSource, field_sources
finally:
    sys.path.remove(str(SCRIPTS))

pytestmark = [pytest.mark.field, pytest.mark.slow]

SOURCES = field_sources()
FILES = [source for source in SOURCES if source.path is not None]


def _name(source: FieldSource) -> str:
    return source.name


@pytest.fixture
def arguments(source: FieldSource) -> list[str]:
    """The source for the command line; skipped where its package could not be fetched."""
    if not source.folder.is_dir():
        pytest.skip(f"{source.folder} is not there: scripts/fetch_field.sh fetches {source.package} where it can")
    return source.arguments


@pytest.mark.parametrize("source", FILES, ids=_name)
def test_inspect_needs_no_option(cli: Callable[..., Result], arguments: list[str], source: FieldSource) -> None:
    result = cli("inspect", *arguments, "--json", "-", "--quiet")
    assert result.exit_code == 0, result.output
    ledger = json.loads(result.stdout)["ledger"]
    assert (ledger["found"], ledger["kept"]) == (source.found, source.kept)


@pytest.mark.parametrize("source", SOURCES, ids=_name)
def test_fold_export_is_equal_and_the_ledger_adds_up(
    cli: Callable[..., Result], arguments: list[str], source: FieldSource, tmp_path: Path
) -> None:
    result = cli("fold-export", *arguments, "-o", tmp_path / "output", "--budget", "300ms")
    assert result.exit_code == 0, result.output
    report: dict[str, Any] = json.loads((tmp_path / "output" / "report.json").read_text())
    ledger = report["ledger"]
    assert report["passed"]
    assert report["verify"]["passed"]
    assert report["verify"]["n_compared"] > 0
    assert ledger["absorbed"] + ledger["merged"] + ledger["removed"] + ledger["kept"] == ledger["found"]
    assert len(ledger["entries"]) == ledger["found"] == source.found
    assert all(entry["reason"] for entry in ledger["entries"] if entry["outcome"] == "kept")
    assert report["graph"]["batchnorm_after"] <= ledger["kept"] == source.kept
