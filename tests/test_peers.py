"""scripts/peers/page.py: what tools wrote is counted by tool, and what was changed, refused or said stands in words."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("peers.page")


def _made(left: int, own: str | None = "equal", **other: Any) -> dict[str, Any]:
    facts = {"tool_s": 2.0, "check_s": 1.0, "own": own, "detail": "", "said": ""}
    return {**facts, "left": left, "runs": True, "equal": True, "verdict": None, **other}


SKIPPED = "skipped: input a ~ b: symbolic shape at 3.5e-2; zonotope: no"
ROWS = [
    {
        "network": "timm:levit_128s", "found": 52,
        "tools": {
            "export": _made(48), "onnxsim": _made(48, "undecided", detail=SKIPPED),
            "onnxslim": _made(48, equal=False, verdict="output y: error 3e-2, allowed 1e-5"), "ort": _made(48, None),
            "bnfold": _made(0),
        },
    },
    {
        "network": "ddddocr/common", "found": 7,
        "tools": {
            "export": {"said": ""}, "onnxsim": _made(7, "different", detail="skipped: c ~ d: symbolic shape at 7"),
            "onnxslim": {"failure": "KeyError: 'seq'"},
            "ort": _made(7, None, runs=False, equal=False, verdict="ONNX Runtime does not load it"), "bnfold": _made(0),
        },
    },
]  # fmt: skip


def test_the_page_counts_by_tool(page: ModuleType, tmp_path: Path) -> None:
    page.write_page(tmp_path / "peers.md", ROWS)
    text = (tmp_path / "peers.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert "| torch.onnx.export | 1 | 1 | 0 | 0 | 1 | 0 | 0 | 48 | 2.0 | 1.0 |" in lines
    assert "| onnxsim | 2 | 2 | 0 | 0 | 0 | 1 | 1 | 48 | 2.0 | 1.0 |" in lines
    assert "| onnxslim | 2 | 1 | 0 | 1 | 1 | 0 | 0 | 48 | 2.0 | 1.0 |" in lines
    assert "| ONNX Runtime, offline | 2 | 2 | 1 | 0 | - | - | - | 48 | 2.0 | - |" in lines
    assert "| bnfold | 2 | 2 | 0 | 0 | 2 | 0 | 0 | 0 | 2.0 | 1.0 |" in lines
    assert "| timm:levit_128s | 52 | 48 | 48 | 48 x | 48 | 0 |" in lines
    assert "| ddddocr/common | 7 | - | 7 | ! | 7 x | 0 |" in lines
    assert "- **BatchNorms left**: of 52 in the networks" in text


def test_the_page_says_what_was_changed_and_what_tools_said(page: ModuleType, tmp_path: Path) -> None:
    page.write_page(tmp_path / "peers.md", ROWS)
    text = (tmp_path / "peers.md").read_text()
    assert (
        "- onnxslim, `timm:levit_128s`: output y: error 3e-2, allowed 1e-5; its own check says equal\n"
        "- ONNX Runtime, offline, `ddddocr/common`: ONNX Runtime does not load it\n"
    ) in text
    assert "- onnxsim, 2 of 2: skipped: symbolic shape at N" in text
    assert "- onnxslim, 1 of 2: no file: KeyError: 'seq'" in text


def test_a_case_without_a_row_is_told(page: ModuleType) -> None:
    assert (
        page.line({"network": "timm:x", "failure": "more than 12 GiB of memory"})
        == "timm:x: more than 12 GiB of memory"
    )
