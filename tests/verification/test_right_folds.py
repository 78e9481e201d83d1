"""scripts/right_folds.py: one network measured, draws pooled, and the page on it."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="module")
def script():
    """The script, imported with its neighbours."""
    pytest.importorskip("onnxsim")
    sys.path.insert(0, str(SCRIPTS))
    try:
        from right_folds import command
    finally:
        sys.path.remove(str(SCRIPTS))
    return command


def _draw(ratio, decided_by="source", failure=None):
    pooled = {"ours": ratio, "plain": 1.0, "onnxsim": 2.0}
    ratios = {file: {"pooled": of, "each": [of, 3.0, 0.1 * of]} for file, of in pooled.items()}
    return {"failure": failure, "reference": "", "decided_by": decided_by, "seconds": 1.0, "ratios": ratios}


def test_draws_are_pooled_without_favour(script):
    row = script.pooled([_draw(0.5), _draw(8.0, "parameters", "it is wrong"), _draw(2.0, "bound")])
    assert math.isclose(row["ours"], 2.0)
    assert math.isclose(row["plain"], 1.0)
    assert row["typical"] == {"ours": 2.0, "plain": 1.0, "onnxsim": 2.0}
    assert (row["passed"], row["failure"], row["decided_by"]) == (False, "it is wrong", "parameters")


def test_a_network_is_measured_once_and_shown(script, tmp_path, monkeypatch, capsys):
    file, page = tmp_path / "rows.jsonl", tmp_path / "page.md"
    monkeypatch.setattr(script, "N_DRAWS_SMALL", 2)
    options = ["right_folds.py", "tabular", "--json", str(file), "--missing", "--markdown", str(page)]
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", options)
        with pytest.raises(SystemExit) as ended:
            script.main()
        assert ended.value.code == 0, capsys.readouterr().out
    (row,) = map(json.loads, file.read_text().splitlines())
    assert row["network"] == "tabular"
    assert len(row["draws"]) == 2
    assert "| **maximum** | " in page.read_text()
    assert "1 of 1 pass with every draw." in page.read_text()
