"""scripts/survey.py: the BatchNorms that tools leave are counted, and the page adds them up."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bnfold.records import Cause, Ledger, LedgerEntry
from bnfold.records.causes import Cycle, Held, Holder

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
TOOLS = ("export", "onnxsim", "onnxslim", "ort", "bnfold")


@pytest.fixture(scope="module")
def survey():
    """The script, imported with its neighbours."""
    pytest.importorskip("onnxsim")
    sys.path.insert(0, str(SCRIPTS))
    try:
        from survey import command
    finally:
        sys.path.remove(str(SCRIPTS))
    return command


def _row(network, found, *left):
    return {"network": network, "found": found, "left": dict(zip(TOOLS, left, strict=True)), "kept": 0, "reasons": {}}


def test_a_batchnorm_in_front_of_a_linear_is_left_by_all_but_one(survey, monkeypatch, capsys):
    from common.networks import build

    monkeypatch.setattr(survey, "build", build)
    row = survey.measure("bnnet")
    others = {tool: count for tool, count in row["left"].items() if tool in ("export", "onnxsim", "ort")}
    assert (row["found"], row["kept"], row["left"]["bnfold"]) == (1, 0, 0)
    assert others == {"export": 1, "onnxsim": 1, "ort": 1}


def test_a_tool_that_fails_is_told_and_left_out_of_the_totals(survey, monkeypatch, capsys):
    def broken(name):
        raise RuntimeError(f"{name} does not like this\nat all")

    monkeypatch.setattr(survey, "import_module", broken)
    assert survey._left("net", "onnxslim", None, Path()) is None
    assert capsys.readouterr().err == "net: onnxslim: RuntimeError: onnxslim does not like this\n"
    rows = [_row("a", 5, 4, 3, 2, 1, 0), _row("b", 7, 7, 7, None, 7, 7), _row("c", 10, 4, 4, 4, 4, 2)]
    assert survey.totals(rows) == ("total of 2", "15", "8", "7", "6", "5", "2")
    assert survey.cells(rows[1])[4] == "-"


def test_what_keeps_batchnorms_is_counted_by_cause_and_operators(survey):
    relu, conv = Holder(Cause.NONLINEAR, "act", "Relu"), Holder(Cause.PADDING, "conv", "Conv")
    output = Holder(Cause.GRAPH_OUTPUT, "y")
    held = [
        Held("offset", relu, conv),
        Held("offset", relu, conv),
        Held("scale", relu, output),
        Held("scale"),
        Cycle(3),
    ]
    entries = [LedgerEntry(f"bn{k}", "kept", (), stays, 1.0, 1.0, 0) for k, stays in enumerate(held)]
    entries.append(LedgerEntry("gone", "absorbed", ("conv",), None, 1.0, 1.0, 0))
    assert survey.reasons(Ledger(tuple(entries))) == {
        "`nonlinear`: offset held by Relu and Conv (padding)": 2,
        "`nonlinear`: scale held by Relu and graph output": 1,
        "`shared`: scale held by a cycle": 1,
        "`shared`": 1,
    }


def test_the_page_adds_up_what_keeps_batchnorms(survey, tmp_path):
    first = {**_row("a", 5, 4, 3, 2, 1, 3), "reasons": {"offset pinned by Relu ...": 2, "a cycle": 1}}
    second = {**_row("b", 5, 4, 3, 2, 1, 2), "reasons": {"offset pinned by Relu ...": 2}}
    survey.write_page(tmp_path / "page.md", [first, second])
    text = (tmp_path / "page.md").read_text()
    assert "| **total of 2** | **10** | **8** | **6** | **4** | **2** | **5** |" in text
    assert "- 4: offset pinned by Relu ...\n- 1: a cycle\n" in text
