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
        from survey import command, page
    finally:
        sys.path.remove(str(SCRIPTS))
    command.page = page
    return command


def _row(network, found, *left):
    return {"network": network, "found": found, "left": dict(zip(TOOLS, left, strict=True)), "kept": 0, "reasons": {}}


def test_a_batchnorm_in_front_of_a_linear_is_left_by_all_but_one(survey, monkeypatch, capsys):
    from common.networks import build

    monkeypatch.setattr(survey, "build", build)
    row = survey.measure("bnnet")
    others = {tool: count for tool, count in row["left"].items() if tool in ("export", "onnxsim", "ort")}
    assert (row["found"], row["kept"], row["left"]["bnfold"], row["proven"]) == (1, 0, 0, True)
    assert others == {"export": 1, "onnxsim": 1, "ort": 1}


def test_a_tool_that_fails_is_told_and_left_out_of_the_totals(survey, monkeypatch, capsys):
    def broken(name):
        raise RuntimeError(f"{name} does not like this\nat all")

    monkeypatch.setattr(survey, "import_module", broken)
    assert survey._left("net", "onnxslim", None, Path()) is None
    assert capsys.readouterr().err == "net: onnxslim: RuntimeError: onnxslim does not like this\n"
    rows = [_row("a", 5, 4, 3, 2, 1, 0), _row("b", 7, 7, 7, None, 7, 7), _row("c", 10, 4, 4, 4, 4, 2)]
    assert survey.totals(rows) == ("total of 2", "15", "8", "7", "6", "5", "2")
    assert survey.page.cells(rows[1])[4] == "-"


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


def test_the_page_adds_up_by_family_and_by_cause_and_says_what_has_no_counts(survey, tmp_path):
    first = {**_row("timm:levit_128s", 5, 4, 3, 2, 1, 3), "reasons": {"offset pinned by Relu ...": 2, "a cycle": 1}}
    second = {**_row("timm:levit_192", 5, 4, 3, 2, 1, 2), "reasons": {"offset pinned by Relu ...": 2}}
    clean = {**_row("timm:resnet18", 20, 0, 0, 0, 0, 0), "proven": "off by 0.5"}
    failed = {"network": "timm:regnety_2560", "failure": "more than 10 GiB of memory"}
    survey.write_page(tmp_path / "page.md", [first, clean, failed, second])
    text = (tmp_path / "page.md").read_text()
    assert "| timm/levit | 2 | 10 | 8 | 6 | 4 | 2 | 5 |" in text
    assert "1 families, 20 BatchNorms of 1 networks, are clear with every tool" in text
    assert "Not proven: timm:resnet18 (off by 0.5)." in text
    assert "| **total of 3** | **30** | **8** | **6** | **4** | **2** | **5** |" in text
    assert "- 4: offset pinned by Relu ...\n- 1: a cycle" in text
    assert text.endswith("## Networks without counts\n\n- timm:regnety_2560: more than 10 GiB of memory\n")
    assert text.index("| timm:levit_128s |") < text.index("| timm:levit_192 |") < text.index("| timm:resnet18 |")


def test_the_list_has_every_network_once_and_one_of_each_family_first(survey):
    networks = survey.NETWORKS
    lines = (SCRIPTS / "survey" / "networks.txt").read_text().splitlines()
    assert len(lines) == len(networks) > 800
    families = set(networks.values())
    first = list(networks.values())[: len(families) + 13]  # and those of scripts/fold_zoo.py
    assert families == set(first)
    assert {"timm/levit", "torchvision/segmentation.fcn", "torchvision/video.s3d"} <= families
